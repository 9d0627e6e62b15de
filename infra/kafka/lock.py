"""Pins the jars that a broker and Kafka's command line tools need: `python -m infra.kafka.lock` writes `kafka.lock`.

Only whoever moves to another version of Kafka runs this; everybody else reads the lock (`jars.py`).
"""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jgo.maven import Artifact

KAFKA = "org.apache.kafka"
VERSION = "4.3.1"  # the newest of which kafka-tools is published too: 4.4.0 came without it
WANTED = (f"{KAFKA}:kafka_2.13:{VERSION}", f"{KAFKA}:kafka-tools:{VERSION}")
LOGGING = "org.apache.logging.log4j"
# kafka-tools brings Kafka Connect with its web server for one tool that nobody here runs: half of all bytes.
LEFT_OUT = (
    f"{KAFKA}:connect-",
    "org.glassfish.",
    "org.eclipse.jetty",
    "io.swagger.",
    "io.github.classgraph",
    "org.apache.maven:",
    "org.codehaus.plexus:",
    "org.javassist:",
    "jakarta.",
    "javax.",
    "com.sun.activation:",
    "com.fasterxml.jackson.jakarta.",
    "com.fasterxml.jackson.module:",
)


def resolve(repository: Path) -> list["Artifact"]:
    """Every jar of the broker and the tools, downloaded into `repository`; the first ones win on the class path."""
    from jgo.maven import MavenContext  # noqa: PLC0415 - slow to import, and only pinning needs it

    maven = MavenContext(repo_cache=repository, timeout=60)
    wanted = [maven.create_dependency(coordinate) for coordinate in WANTED]
    for each in wanted:
        each.scope = "compile"
    inputs, transitive = maven.resolver.resolve(wanted)
    artifacts = [each.artifact for each in (*inputs, *transitive) if each.scope in ("compile", "runtime")]
    artifacts = [each for each in artifacts if not f"{each.groupId}:{each.artifactId}".startswith(LEFT_OUT)]
    # The binding is taken on its own: resolved together, jgo applies its dependency management to Kafka and pulls
    # kafka-clients down to another version. Without a binding the broker logs nothing, not even refused logins.
    log4j = next(each.version for each in artifacts if each.artifactId == "log4j-core")
    artifacts.append(maven.project(LOGGING, "log4j-slf4j-impl").at_version(log4j).artifact())
    stray = [str(each) for each in artifacts if each.groupId == KAFKA and each.version != VERSION]
    if stray:
        sys.exit(f"these jars are not of Kafka {VERSION}: {', '.join(stray)}")
    return artifacts


def main() -> None:
    with TemporaryDirectory() as repository:
        lines = []
        for artifact in resolve(Path(repository)):
            content = artifact.resolve().read_bytes()
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f"{coordinate} {hashlib.sha256(content).hexdigest()} {len(content)}\n")
    lock = Path(__file__).with_name("kafka.lock")
    lock.write_text(
        "# group:artifact:version sha256 bytes, in class path order. Written by `python -m infra.kafka.lock`.\n"
        + "".join(lines)
    )


if __name__ == "__main__":
    main()

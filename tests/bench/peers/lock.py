"""Pins the jars that Kafka Streams needs beside the broker's: `python tests/bench/peers/lock.py` writes the lock."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from jgo.maven import MavenContext

from infra.kafka.jars import kafka_version, locked

STREAMS = "org.apache.kafka:kafka-streams"


def main() -> None:
    with TemporaryDirectory() as repository:
        maven = MavenContext(repo_cache=Path(repository), timeout=60)
        wanted = maven.create_dependency(f"{STREAMS}:{kafka_version()}")
        wanted.scope = "compile"
        inputs, transitive = maven.resolver.resolve([wanted])
        known = {(jar.group, jar.artifact) for jar in locked()}
        lines = []
        for each in (*inputs, *transitive):
            artifact = each.artifact
            if (artifact.groupId, artifact.artifactId) not in known and each.scope in {"compile", "runtime"}:
                content = artifact.resolve().read_bytes()
                coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
                lines.append(f"{coordinate} {hashlib.sha256(content).hexdigest()} {len(content)}\n")
    lock = Path(__file__).with_name("kafka_streams.lock")
    lock.write_text("# group:artifact:version sha256 bytes. Written by lock.py beside it.\n" + "".join(lines))


if __name__ == "__main__":
    main()

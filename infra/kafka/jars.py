"""The jars of Kafka, checked against the lock: downloaded once by jgo, then read from the cache without network."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.cache import cache_dir
from schemas.errors import Unavailable

BROKER = "org.apache.kafka:kafka_2.13"
DOWNLOADS_MAX = 8
TRIES_MAX = 3
TIMEOUT_S = 60

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of `kafka.lock`."""

    group: str
    artifact: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether `path` has exactly the locked bytes."""
        try:
            if path.stat().st_size != self.size_bytes:
                return False
            with path.open("rb") as content:
                return hashlib.file_digest(content, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def locked() -> list[Jar]:
    """The lock, in class path order. All jars of Apache Kafka have the broker's version (a test says so too)."""
    return read_lock((files("infra.kafka") / "kafka.lock").read_text())


def read_lock(text: str) -> list[Jar]:
    """The jars that a lock's text names, in its order."""
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256, size_bytes = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size_bytes)))
    return jars


def kafka_version() -> str:
    return next(jar.version for jar in locked() if f"{jar.group}:{jar.artifact}" == BROKER)


def class_path(*, progress: Progress = lambda done, total: None, beside: Sequence[Jar] = ()) -> str:
    """Java's class path of verified jars and those wanted beside them, downloading missing ones. Raises `Unavailable`.

    All 46 MB are hashed every time: 0.1 s, and a damaged or doctored cache is never run.
    """
    folder = cache_dir() / f"kafka-{kafka_version()}"
    jars = [*locked(), *beside]
    missing = [jar for jar in jars if not jar.is_at(folder / jar.filename)]
    if missing:
        _download(missing, folder, progress)
    return os.pathsep.join(str(folder / jar.filename) for jar in jars)


def _download(missing: list[Jar], folder: Path, progress: Progress) -> None:
    total = sum(jar.size_bytes for jar in missing)
    done = 0
    progress(done, total)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Each jar moves into the cache whole and verified, so two stacks may download at the same time
        # and an interrupted download leaves nothing behind.
        with TemporaryDirectory(dir=folder) as incoming, ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
            maven = _maven(Path(incoming))
            jobs = {pool.submit(_fetch, jar, maven): jar for jar in missing}
            try:
                for job in as_completed(jobs):
                    job.result().replace(folder / jobs[job].filename)
                    done += jobs[job].size_bytes
                    progress(done, total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except OSError as error:
        raise Unavailable(f"cannot keep Kafka's jars in {folder}: {error.strerror or error}") from error


def _maven(repository: Path) -> Any:
    from jgo.config import GlobalSettings  # noqa: PLC0415 - only a first start needs it
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    # A mirror named in the user's jgo configuration is honoured.
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, local_repos=[], remote_repos=repositories, timeout=TIMEOUT_S)


def _told(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "the certificate is not trusted; where a proxy reads TLS, name its CA: REQUESTS_CA_BUNDLE=FILE.pem"
    return text


def _fetch(jar: Jar, maven: Any) -> Path:
    artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    trouble = ""
    for _ in range(TRIES_MAX):
        try:
            path = Path(artifact.resolve())
        except Exception as error:  # noqa: BLE001 - requests', urllib3's and jgo's own: all mean "not now"
            trouble = _told(error)
            artifact.cached_path.unlink(missing_ok=True)
            continue
        if jar.is_at(path):
            return path
        trouble = f"its bytes are not those of the lock (sha256 {jar.sha256[:12]}...)"
        path.unlink()
    raise Unavailable(f"cannot download {jar.filename} for Kafka {kafka_version()}: {trouble}")

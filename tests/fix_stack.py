"""A real broker and a real database for tests: containers where a Docker engine answers, else the embedded ones.

Both start on first use, are shared by the whole session and end with it, also when pytest itself is killed.
"""

import ctypes
import gc
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from infra import ports, processes
from infra.accounts import unprivileged
from infra.kafka import broker
from infra.ports import LOOPBACK
from infra.postgres import server
from infra.provision import provision
from schemas.topics import PARTITIONS

KAFKA_IMAGE = "apache/kafka:4.3.1"
DATABASE_IMAGE = "timescale/timescaledb:2.29.2-pg17"
GIVEN = os.environ.get("TELLTALE_TEST_DATABASE")
"""A superuser's DSN: test on this server instead, such as one with TimescaleDB."""
READY_S_MAX = 90
"""Some ten times what both need on two busy cores."""


@cache
def docker_answers() -> bool:
    answers = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import docker

        try:
            client = docker.from_env(timeout=3)
            answers = bool(client.ping())
            client.close()
        except Exception:  # noqa: BLE001 - any trouble means: no Docker here
            pass
        gc.collect()  # a failing client leaves its socket open, which would be some later test's warning
    return answers


def wait_until(answers: Callable[[], bool], *, what: str, alive: Callable[[], bool], log: Path | None = None) -> None:
    """Probes until it answers; fails with the end of the log when the process ended or READY_S_MAX has passed."""
    deadline = time.monotonic() + READY_S_MAX
    while not answers():
        if not alive() or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log else ""
            pytest.fail(f"{what} did not come up\n{tail}")
        time.sleep(processes.POLL_S)


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def _die_with_pytest() -> None:
    """Runs in the new process: the system kills it when pytest ends, however it ends."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(
    command: list[str],
    *,
    log: Path,
    cwd: Path,
    account: dict[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Any:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdout=output,
            stderr=output,
            env=None if env is None else {**os.environ, **env},
            preexec_fn=_die_with_pytest,  # noqa: PLW1509 - one call into a library that is already loaded
            **(account or {}),
        )


@pytest.fixture(scope="session")
def stack_folder() -> Iterator[Path]:
    """A folder for the session's servers, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="telltale-tests-"))
    # As root the database runs under an account that must be able to pass through.
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(stack_folder: Path) -> Iterator[str]:
    """The address of a running broker. It has no topics until a test makes some; see `cluster`."""
    port = ports.free()
    one = broker.Broker(stack_folder / "kafka", port, ports.free(taken=frozenset({port})))
    if docker_answers():
        yield from _kafka_container(one)
        return
    class_path = broker.prepared_class_path()
    one.prepare(class_path=class_path)
    log = one.folder / "kafka.log"
    running = _start(one.command(class_path=class_path), log=log, cwd=one.folder)
    try:
        wait_until(lambda: broker.answers(one.address), what="Kafka", alive=lambda: running.poll() is None, log=log)
        yield one.address
    finally:
        _stop(running, signal.SIGTERM)


def _stop(running: Any, signal_number: int) -> None:
    running.send_signal(signal_number)
    try:
        running.wait(timeout=20)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


@contextmanager
def _container(image: str, *, doors: dict[int, int], env: dict[str, str], command: list[str]) -> Iterator[Any]:
    """A container with ports {inside: outside} on loopback only; what it said is shown when it does not come up."""
    from testcontainers.core.container import DockerContainer

    made = DockerContainer(image)
    for inside, outside in doors.items():
        made.ports[f"{inside}/tcp"] = (LOOPBACK, outside)
    for name, value in env.items():
        made.with_env(name, value)
    if command:
        made.with_command(command)
    with made:
        try:
            yield made.get_wrapped_container()
        except pytest.fail.Exception:
            print(made.get_wrapped_container().logs(tail=30).decode(errors="replace"))
            raise


def _runs(container: Any) -> bool:
    container.reload()
    return bool(container.status in ("created", "running"))


def _kafka_container(one: broker.Broker) -> Iterator[str]:
    """The settings of the embedded broker, but that its listeners are open to the container's door."""
    listeners = f"CLIENT://:{one.port},CONTROLLER://:{one.controller_port}"
    settings = {**one.properties(), "listeners": listeners, "log.dirs": "/var/lib/kafka/data"}
    env = {"KAFKA_" + name.upper().replace(".", "_"): value for name, value in settings.items()}
    with _container(KAFKA_IMAGE, doors={one.port: one.port}, env=env, command=[]) as running:
        wait_until(lambda: broker.answers(one.address), what=KAFKA_IMAGE, alive=lambda: _runs(running))
        yield one.address


@pytest.fixture
def device_partitions() -> int:
    """How many partitions `cluster` gives topics keyed by device. A module may override it."""
    return PARTITIONS


@pytest.fixture
def cluster(kafka: str, device_partitions: int) -> str:
    """The address of a broker whose topics are the catalogue's, empty, and which knows no consumer group."""
    empty_broker(kafka)
    provision(kafka, partitions=device_partitions)
    return kafka


def empty_broker(address: str) -> None:
    """Deletes all topics and all groups without members. Offsets go with their topic."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address})
    while topics := [name for name in admin.list_topics(timeout=READY_S_MAX).topics if not name.startswith("__")]:
        for deleted in admin.delete_topics(topics, operation_timeout=30).values():
            error = deleted.exception()  # the broker may still list what the controller has deleted
            if error and error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                raise error
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    if groups:
        for gone in admin.delete_consumer_groups(groups).values():
            gone.exception()  # a group whose last member was killed lives until its session times out


@pytest.fixture(scope="session")
def database_server(stack_folder: Path) -> Iterator[str]:
    """The DSN of a running server, as its superuser."""
    if GIVEN:
        yield GIVEN
        return
    if docker_answers():
        yield from _database_container()
        return
    one = server.Server(stack_folder / "postgres", ports.free(), settings=(("max_wal_size", "512MB"),))
    log = stack_folder / "postgres.log"
    one.prepare()
    account = unprivileged()
    running = _start(one.command(), log=log, cwd=one.place, account=account.popen() if account else None)
    try:
        wait_until(
            lambda: server.answers(one.dsn("postgres")),
            what="PostgreSQL",
            alive=lambda: running.poll() is None,
            log=log,
        )
        yield one.dsn("postgres")
    finally:
        _stop(running, server.STOP_SIGNAL)
        one.remove()


def _database_container() -> Iterator[str]:
    """TimescaleDB is preloaded by the image, and in every new database (its template has it)."""
    password, port = secrets.token_hex(8), ports.free()
    dsn = f"postgresql://postgres:{password}@{LOOPBACK}:{port}/postgres"
    settings = {"timezone": "UTC", "log_timezone": "UTC", "jit": "off", "max_wal_size": "512MB"}
    command = ["postgres", *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]
    with _container(
        DATABASE_IMAGE, doors={5432: port}, env={"POSTGRES_PASSWORD": password}, command=command
    ) as running:
        wait_until(lambda: server.answers(dsn), what=DATABASE_IMAGE, alive=lambda: _runs(running))
        yield dsn


@pytest.fixture
def database(database_server: str) -> Iterator[str]:
    """The DSN of a new, empty database of this test's own."""
    name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
    server.ensure_database(database_server, name)
    yield database_server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

"""Brings a stack up in its folder, in the foreground or detached; takes it down. The composition of all parts."""

import fcntl
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra import ports, processes, stack, systemd
from infra.client import Access, operator
from infra.kafka import cluster
from infra.kafka.broker import Door, answers
from infra.kafka.cluster import KAFKA
from infra.logs import appended, followers, log_file
from infra.parts import POSTGRES, Part, chosen, declared, kafka_part, postgres_part, service_part
from infra.postgres import server
from infra.security import principals
from infra.stack import Stack
from infra.supervisor import Supervisor
from schemas.errors import Refused, Unavailable

DISK_BYTES_MIN = 500_000_000
"""What an empty stack takes (Kafka's and PostgreSQL's preallocated logs) and some room to run."""
PORTS = "ports.json"
TARGETS = "prometheus-targets.json"
METRICS_PORT = "TELLTALE_METRICS_PORT"
DEVICES_AT = "TELLTALE_DEVICES_AT"
CERTIFICATES_AT = "TELLTALE_DEVICE_CERTIFICATES_AT"
BROKERS = "TELLTALE_BROKERS"
LAST_PORT = 65_535
LOOPBACKS = {"localhost", ports.LOOPBACK}
DASHBOARD = "dashboard"
DOWN_S_MAX = 120
"""Five parts that each use all of their time to stop; those of a group share it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks of `telltale up`."""

    folder: Path
    only: str | None = None
    kafka_port: int | None = None
    postgres_port: int | None = None
    dashboard_port: int | None = None
    devices: str | None = None
    """HOST:PORT at which devices are let in by TLS and password; of several brokers the first."""
    certificates: str | None = None
    """The same by certificate."""
    brokers: int | None = None
    """Nodes of Kafka; by default as the stack was made, else TELLTALE_BROKERS, else one."""


def say(line: str) -> None:
    """One line for a person, apart from what the parts log."""
    sys.stderr.write(f"telltale: {line}\n")
    sys.stderr.flush()


def run(wish: Wish, *, follow: bool, when_up: Callable[[Stack], None]) -> None:
    """Runs the stack until a signal ends it. Raises `Refused` or `Unavailable`; then nothing is left running."""
    names = chosen(wish.only)
    with _held(wish.folder):
        end_leftovers(wish.folder)
        _check_disk(wish.folder)
        record, parts = _compose(wish, names)
        shown = followers(wish.folder, [part.name for part in parts]) if follow else []
        supervisor = Supervisor(record, parts, say=say, followers=shown)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, supervisor.ask_to_stop)

        def works() -> None:
            systemd.notify("READY=1")
            when_up(record)

        try:
            supervisor.run(when_up=works)
        except OSError as error:
            raise Unavailable(f"{error.filename or wish.folder}: {error.strerror or error}") from error
        finally:
            (wish.folder / stack.STATE).unlink(missing_ok=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process, which the system undoes however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # World-readable names, private contents: an account that root lends must be able to pass.
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refused(f"folder {folder}: {error.strerror}; name another one with --dir") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"a stack runs in {folder} already; to start it otherwise: telltale down --dir {folder}"
            ) from error
        yield
    finally:
        os.close(lock)


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES_MIN:
        raise Unavailable(
            f"no disk space: {folder} has {free // 1_000_000} MB left, a stack needs {DISK_BYTES_MIN // 1_000_000} MB"
        )


def _compose(wish: Wish, names: list[str]) -> tuple[Stack, list[Part]]:
    """The parts in order and the first record of the stack. A broker or database named in the environment is used
    instead of one of our own."""
    folder = wish.folder
    number = cluster.decided(folder, _brokers(wish))
    kafka, database = os.environ.get("TELLTALE_KAFKA"), os.environ.get("TELLTALE_DATABASE")
    numbers = _ports(wish, number, names)
    parts: list[Part] = []
    devices = certificates = None
    who: Access | None = None
    if kafka:
        _demand(answers(kafka, timeout_s=5), f"Kafka at {kafka} (TELLTALE_KAFKA) does not answer")
    elif KAFKA in names:
        doors = _doors(wish, number, numbers)
        devices = _addresses(doors, by_certificate=False)
        certificates = _addresses(doors, by_certificate=True)
        if devices or certificates:
            principals.passwords(folder)
            who = operator(folder)
        nodes = cluster.nodes(folder, number, numbers, doors=doors, operator=who.password if who else None)
        kafka = cluster.address(nodes)
        parts += [kafka_part(name, node, folder, who) for name, node in zip(cluster.names(number), nodes, strict=True)]
    if database:
        _demand(server.answers(database, timeout_s=5), "the database named by TELLTALE_DATABASE does not answer")
    elif POSTGRES in names:
        postgres = server.Server(folder / "postgres", numbers["postgres"])
        postgres.settle_in()
        database = postgres.dsn()
        parts.append(postgres_part(postgres))
    env = {
        "TELLTALE_DIR": str(folder),
        **({"TELLTALE_KAFKA": kafka} if kafka else {}),
        **({"TELLTALE_DATABASE": database} if database else {}),
    }
    for name, entry in declared().items():
        if name in names:
            own = principals.environment(folder, name) if who else {}
            parts.append(_service(name, entry, numbers, folder=folder, env=env | own))
    _tell_prometheus(folder, parts)
    dashboard = f"http://{ports.LOOPBACK}:{numbers[DASHBOARD]}" if DASHBOARD in names else None
    record = Stack(
        folder, processes.myself(), kafka, database, dashboard, devices, certificates, asks_who=who is not None
    )
    return record, parts


def _brokers(wish: Wish) -> int | None:
    said = os.environ.get(BROKERS)
    if wish.brokers is not None or not said:
        return wish.brokers
    known = {str(number): number for number in cluster.NUMBERS}
    if said not in known:
        raise Refused(f'{BROKERS}: expected {" or ".join(known)}, got "{said}"')
    return known[said]


def _doors(wish: Wish, number: int, numbers: dict[str, int]) -> dict[str, tuple[Door, ...]]:
    """Each node's listeners for devices, if they are wished for."""
    by_password = _doors_at(wish.devices or os.environ.get(DEVICES_AT), DEVICES_AT, wish, number, numbers)
    said = wish.certificates or os.environ.get(CERTIFICATES_AT)
    taken = numbers | {f"devices of {name}": door.port for name, door in by_password.items()}
    by_certificate = {
        name: replace(door, vouch=wish.folder / "tls" / "ca.pem")
        for name, door in _doors_at(said, CERTIFICATES_AT, wish, number, taken).items()
    }
    return {
        name: tuple(doors[name] for doors in (by_password, by_certificate) if doors) for name in cluster.names(number)
    }


def _doors_at(said: str | None, setting: str, wish: Wish, number: int, numbers: dict[str, int]) -> dict[str, Door]:
    """One for each node: at the port that was said and those after it."""
    if said is None:
        return {}
    host, colon, port = said.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= LAST_PORT - number + 1:
        raise Refused(f'{setting}: expected HOST:PORT, such as broker.example.org:9094, got "{said}"')
    folder = wish.folder / "tls"
    keystore = folder / "server.pem"
    if not keystore.exists():
        raise Refused(f"devices need TLS, and there is no {keystore}; make it: telltale tls init --name {host}")
    bound = "0.0.0.0" if host not in LOOPBACKS else ports.LOOPBACK  # noqa: S104 - wished for
    doors = {name: Door(bound, int(port) + at, host, keystore) for at, name in enumerate(cluster.names(number))}
    for door in doors.values():
        if door.port in numbers.values():
            raise Refused(f"port {door.port} is taken by another part of the stack")
    return doors


def _addresses(doors: dict[str, tuple[Door, ...]], *, by_certificate: bool) -> str | None:
    found = [door.address for each in doors.values() for door in each if (door.vouch is not None) is by_certificate]
    return ",".join(found) or None


def _service(name: str, entry: dict[str, Any], numbers: dict[str, int], *, folder: Path, env: dict[str, str]) -> Part:
    """With a port for its metrics, or the one that it listens at anyway."""
    variable = entry.get("listens", METRICS_PORT)
    number = numbers.get(name if "listens" in entry else _metrics_of(name))
    own = {variable: str(number)} if number else {}
    return service_part(
        name,
        entry["command"],
        folder=folder,
        env=env | own,
        once=entry.get("once", False),
        metrics=f"http://{ports.LOOPBACK}:{number}/metrics" if number else None,
    )


def _metrics_of(name: str) -> str:
    """How the port of a part's metrics is called in the file of ports."""
    return f"{name}-metrics"


def _tell_prometheus(folder: Path, parts: list[Part]) -> None:
    """Where the parts answer, for a `file_sd_configs` of Prometheus on this machine."""
    targets = [
        {"targets": [urlsplit(part.metrics).netloc], "labels": {"service": part.name}} for part in parts if part.metrics
    ]
    coming = folder / f"{TARGETS}.coming"
    coming.write_text(json.dumps(targets, indent=1))
    coming.replace(folder / TARGETS)


def _demand(answers_: bool, trouble: str) -> None:
    if not answers_:
        raise Unavailable(trouble)


def _ports(wish: Wish, number: int, names: list[str]) -> dict[str, int]:
    """Those asked for, else those of the last start (edges know them), else free ones; remembered. Several brokers
    have the port that was asked for and those after it."""
    file = wish.folder / PORTS
    last = _last_ports(file)
    asked = {
        "postgres": wish.postgres_port,
        DASHBOARD: wish.dashboard_port,
        **{name: wish.kafka_port and wish.kafka_port + at for at, name in enumerate(cluster.names(number))},
        **dict.fromkeys(cluster.names(number, of=cluster.CONTROLLER)),
        **{
            _metrics_of(name): None
            for name, entry in declared().items()
            if name in names and not entry.get("once") and "listens" not in entry
        },
    }
    numbers: dict[str, int] = {}
    for name, port in asked.items():
        if port:
            option = f"--{name.partition('-')[0]}-port"
            if port > LAST_PORT:
                raise Refused(f"{option}: {number} brokers have that port and those after it, up to {LAST_PORT}")
            numbers[name] = ports.asked_for(port, option=option)
    for name in asked.keys() - numbers.keys():
        numbers[name] = ports.free(preferred=last.get(name), taken=frozenset(numbers.values()))
    coming = file.with_name(f"{PORTS}.coming")
    coming.write_text(json.dumps(numbers))
    coming.replace(file)
    return numbers


def _last_ports(file: Path) -> dict[str, int]:
    """Those of the last start; none where a power cut has left half of a file, which costs other ports at most."""
    try:
        said = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: port for name, port in said.items() if isinstance(port, int)} if isinstance(said, dict) else {}


def end_leftovers(folder: Path) -> bool:
    """Ends what a killed supervisor left running, last part first. True if there was something."""
    left = stack.recorded(folder)
    found = False
    for service in reversed(left.services if left else ()):
        if service.process is not None and service.process.lives():
            found = True
            say(f"{service.name}: left by a stack that was killed, stopping it (pid {service.process.pid})")
            service.process.end(service.stop_signal, timeout_s=30)
    if left:
        (folder / stack.STATE).unlink(missing_ok=True)
    return found


def down(folder: Path) -> bool:
    """Stops the stack in `folder`, or what is left of it. False if nothing ran there."""
    running = stack.recorded(folder)
    if running is None:
        return False
    if not running.is_supervised:
        return end_leftovers(folder)
    if not running.supervisor.end(timeout_s=DOWN_S_MAX):
        say("the supervisor did not stop and was killed")
        end_leftovers(folder)
    return True


def remove(folder: Path) -> None:
    """Deletes the stack's folder with all data, also what root's stack keeps outside of it. It must not run.

    Raises `Refused` for a folder in which no stack was ever made: it may be anything, a home above all.
    """
    there = {each.name for each in folder.iterdir()}
    if there - {"lock", "logs"} and not there & {PORTS, stack.STATE, POSTGRES}:
        raise Refused(f"{folder} is not the folder of a stack: there is no {PORTS} in it; nothing was deleted")
    with _held(folder):
        server.Server(folder / "postgres", 0).remove()
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise Unavailable(f"{folder} could not be deleted whole: see who owns what is left in it")


def detach(wish: Wish) -> Stack:
    """Runs the stack in a process of its own; returns when it works. Raises as `run` does, with the same words."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(reading)
            code = _detached(wish, writing)
        except BaseException:  # noqa: BLE001 - our bug, told here since this process must not return to its parent's work
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    try:
        with os.fdopen(reading) as answer:
            said = answer.read()  # ends when the stack works or has ended, since nobody else holds the pipe
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if said == "up":
        return stack.locate(wish.folder)
    os.waitpid(child, 0)
    kind, _, message = said.partition(" ")
    raise (Refused if kind == "refused" else Unavailable)(message or f"it ended; see {log_file(wish.folder, 'stack')}")


def _detached(wish: Wish, answer: int) -> int:
    """The child's whole life. Its progress still goes to the terminal, until the stack works."""
    os.setsid()

    def when_up(_: Stack) -> None:
        log = log_file(wish.folder, "stack")
        with appended(log) as file, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.write(answer, b"up")
        os.close(answer)

    try:
        run(wish, follow=False, when_up=when_up)
    except (Refused, Unavailable) as trouble:
        kind = "refused" if isinstance(trouble, Refused) else "unavailable"
        os.write(answer, f"{kind} {trouble}".encode())
        return trouble.exit_code
    return 0

"""A whole pipeline of real processes for the fault book: its own broker and database, services that are started again
when they end, devices that never cease, and somebody who listens to alarms.

One pipeline serves a module's scenarios one after the other; each begins healthy, whatever the one before did.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from fix_faultbook import Book
from fix_proxy import Proxy
from fix_services import Service, await_true
from fix_stack import _start
from fix_stage import START_US, US, Wire, calibrated, make_device

from infra import ports
from infra.accounts import unprivileged
from infra.client import reader
from infra.kafka import broker
from infra.kafka.broker import java_command
from infra.postgres import server
from infra.provision import provision
from producers.edge import Edge
from producers.settings import EdgeSettings
from producers.spool import Rows
from schemas.alarms import AlarmEvent, read_alarm
from schemas.devices import AlarmRule, Device
from schemas.frames import CleanFrame
from schemas.topics import ALARMS, READINGS_CLEAN

PARTITIONS = 4
CHANNELS = ("c0", "c1", "c2")
WAIT_S_MAX = float(os.environ.get("TELLTALE_FAULT_WAIT_S", "120"))
"""For what comes in seconds on a quiet machine."""
SETTINGS = {
    "TELLTALE_STREAMS_SESSION_TIMEOUT_S": "6",
    "TELLTALE_STREAMS_TRANSACTION_TIMEOUT_S": "8",
    "TELLTALE_SINK_SESSION_TIMEOUT_MS": "6000",
    "TELLTALE_SINK_ALARM_AFTER_S": "2",
    "TELLTALE_SINK_RETRY_S_MAX": "1",
    "TELLTALE_IMPORT_WAITING_S": "1",
    "TELLTALE_WATCHDOG_EVERY_S": "1",
    "TELLTALE_WATCHDOG_UNREACHABLE_S": "2",
    "TELLTALE_WATCHDOG_STILL_S": "5",
    "TELLTALE_WATCHDOG_DISK_SHARE_MIN": "0",
    "TELLTALE_WATCHDOG_DISK_HOURS_MIN": "0",
}
SOON = AlarmRule.model_validate({"name": "sequence_gap", "kind": "sequence_gap", "limit": 0, "on_delay_s": 2})
"""Missing frames are told of after 2 s instead of 10 minutes."""
SERVICES = {name: (name, "run") for name in ("streams", "sink", "watchdog")}
QUICK = {"retry_first_s": 0.1, "retry_s_max": 0.5, "linger_s": 0.05, "heartbeat_s": 1.0}


def series(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logged values of these rows, (row, channel): they tell which they are, and no neighbours are alike."""
    return 10.0 + (numbers[:, None] * 7 + np.arange(len(CHANNELS))[None, :] * 1000) % 3001 / 100.0


def rows_of(device: str, first: int, count: int, *, step_s: int = 1) -> Rows:
    numbers = np.arange(first, first + count, dtype=np.int64)
    return Rows(device, START_US + numbers * step_s * US, CHANNELS, series(numbers))


STORED = """
SELECT {} FROM readings JOIN sensors USING (sensor_id)
WHERE device_id = %s AND time >= to_timestamp(%s) AND time < to_timestamp(%s)"""


def stamp(number: int) -> str:
    """When a row of a series is, ISO 8601."""
    return datetime.fromtimestamp(START_US // US + number, UTC).isoformat()


class Load:
    """Devices of one edge in this process, each with one endless series. `accepted` counts rows."""

    def __init__(
        self, address: str, spool: Path, devices: Sequence[str], *, rows_per_s: float = 20.0, **settings: Any
    ) -> None:
        self.accepted = dict.fromkeys(devices, 0)
        self.muted: set[str] = set()
        self._every_s = 0.25
        self._rows = max(1, round(rows_per_s * self._every_s))
        self.edge = Edge(EdgeSettings(spool=spool, **{**QUICK, **settings}), address=address, devices=devices)
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                with self._turn:
                    self.accept(self._rows)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            self.failure = error

    def accept(self, rows: int) -> None:
        speaking = [device for device in self.accepted if device not in self.muted]
        if not speaking:
            return
        self.edge.accept_rows([rows_of(device, self.accepted[device], rows) for device in speaking])
        for device in speaking:
            self.accepted[device] += rows

    def mute(self, *devices: str) -> None:
        """Neither readings nor heartbeats."""
        with self._turn:
            self.muted |= set(devices)
        for device in devices:
            self.edge.hush(device, silent=True)

    def unmute(self, *devices: str) -> None:
        for device in devices:
            self.edge.hush(device, silent=False)
        with self._turn:
            self.muted -= set(devices)

    def counts(self) -> dict[str, int]:
        assert self.failure is None, self.failure
        return dict(self.accepted)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.edge.close()


def push_for_ever(folder: str, address: str, said: str, device: str) -> None:
    """For a process that is going to be killed: a row after another, each told in a file once it is accepted."""
    settings = EdgeSettings(device_id=device, spool=Path(folder), **QUICK)
    with Edge(settings, address=address) as edge, Path(said).open("a", buffering=1) as file:
        first = edge.counts(device).accepted // len(CHANNELS)
        for number in range(first, first + 10_000_000):
            edge.accept_rows([rows_of(device, number, 1)])
            file.write(f"{number}\n")
            time.sleep(0.002)


class Pusher:
    """An edge as a process of its own."""

    def __init__(self, address: str, folder: Path, device: str) -> None:
        self.address, self.device = address, device
        self.spool, self.said = folder / f"spool-{device}", folder / f"said-{device}"
        self.said.touch()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["fix_pipeline", "producers.delivery.sender"])
        self._process: Any = None

    def start(self) -> None:
        before = self.said.stat().st_size
        words = (str(self.spool), self.address, str(self.said), self.device)
        self._process = self._context.Process(target=push_for_ever, args=words, daemon=True)
        self._process.start()
        await_true(lambda: self.said.stat().st_size > before, what="accepting", within_s=WAIT_S_MAX)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def drained(self) -> int:
        """The spool sent by one last edge; the rows that were accepted. All that was told is among them."""
        settings = EdgeSettings(device_id=self.device, spool=self.spool, **QUICK)
        with Edge(settings, address=self.address) as edge:
            await_true(lambda: edge.drained, what="drained", within_s=WAIT_S_MAX)
            accepted = edge.counts(self.device).accepted // len(CHANNELS)
        told = [int(line) for line in self.said.read_text().split("\n")[:-1]]
        assert told == sorted(set(told))
        assert told[-1] < accepted <= told[-1] + 2
        return accepted


class WithLine(broker.Broker):
    """Has a second listener, for edges, which advertises a proxy."""

    def __init__(self, folder: Path, port: int, controller_port: int, edge_port: int, advertised: str) -> None:
        super().__init__(folder, port, controller_port)
        object.__setattr__(self, "line", (edge_port, advertised))

    def properties(self) -> dict[str, str]:
        known, about = super().properties(), self
        edge_port, advertised = about.line  # type: ignore[attr-defined]  # set above, past a frozen dataclass
        return {
            **known,
            "listeners": f"{known['listeners']},EDGE://127.0.0.1:{edge_port}",
            "advertised.listeners": f"{known['advertised.listeners']},EDGE://{advertised}",
            "listener.security.protocol.map": f"{known['listener.security.protocol.map']},EDGE:PLAINTEXT",
        }


class Kafka:
    """The broker, that may be killed, frozen, emptied; on a small disk of its own where this is root's machine."""

    DISK = "700m"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.has_disk = os.geteuid() == 0 and not _ran(
            "mount", "-t", "tmpfs", "-o", f"size={self.DISK}", "tmpfs", str(folder)
        )
        taken: set[int] = set()
        for _ in range(3):
            taken.add(ports.free(taken=frozenset(taken)))
        port, controller, edge_port = taken
        self.line = Proxy(edge_port)
        self.one = WithLine(folder, port, controller, edge_port, self.line.address)
        self._class_path = broker.prepared_class_path()
        self.process: Any = None

    @property
    def address(self) -> str:
        return self.one.address

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Formats an empty disk, starts, waits; makes the topics that are missing."""
        self.one.prepare(class_path=self._class_path)
        log = self.folder.parent / f"kafka-{time.monotonic_ns()}.log"
        self.process = _start(self.one.command(class_path=self._class_path), log=log, cwd=self.folder.parent)
        await_true(lambda: broker.answers(self.address), what="broker", within_s=WAIT_S_MAX)
        provision(self.address, partitions=PARTITIONS)

    def says_of_transactions(self) -> str:
        """For who looks into a failure: which are open, and which nobody will end."""
        if not self.runs:
            return "no broker"
        tool = [
            *java_command(self._class_path, heap="128m", level="ERROR"),
            *("org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", self.address),
        ]
        asked = [["list"], ["find-hanging", "--broker-id", "1"]]
        asked += [
            ["describe-producers", "--topic", "__consumer_offsets", "--partition", str(part)] for part in range(4)
        ]
        said = [subprocess.run([*tool, *words], capture_output=True, text=True, check=False) for words in asked]
        return "\n".join(f"{words}\n{each.stdout}{each.stderr[-300:]}" for words, each in zip(asked, said, strict=True))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As an operator does."""
        self.process.terminate()
        self.process.wait(60)

    def lose_everything(self) -> None:
        self.kill()
        for each in self.folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    def close(self) -> None:
        if self.runs:
            self.kill()
        self.line.close()
        if self.has_disk:
            _ran("umount", "-l", str(self.folder))


WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
static long ahead_s(void) { const char *said = getenv("AHEAD_S"); return said ? atol(said) : 0; }
int clock_gettime(clockid_t which, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(which, at);
  if (!failed && which == CLOCK_REALTIME) at->tv_sec += ahead_s();
  return failed;
}
// A wait until a moment of the wrong clock ends at that moment of the right one; small numbers are of another clock.
static struct timespec right(const struct timespec *until) {
  struct timespec made = *until;
  if (made.tv_sec > 1000000000) made.tv_sec -= ahead_s();
  return made;
}
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec made = right(until);
  return real(cond, mutex, &made);
}
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec made = right(until);
  return real(cond, mutex, &made);
}
int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


def wrong_clock(folder: Path, ahead_s: int) -> dict[str, str]:
    """The environment of a process that believes it is so much later; as libfaketime does it. Needs a C compiler."""
    source, library = folder / "wrong_clock.c", folder / "wrong_clock.so"
    source.write_text(WRONG_CLOCK)
    if _ran("cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"):
        pytest.skip("no C compiler to make a wrong clock with")
    return {"LD_PRELOAD": str(library), "AHEAD_S": str(ahead_s)}


def _ran(*words: str) -> int:
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode
    except OSError:
        return 1


class Database:
    """The database server, that may be stopped, killed, frozen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.one = server.Server(folder, ports.free(), settings=(("max_wal_size", "512MB"),))
        self.one.prepare()
        self.process: Any = None
        self._frozen: list[psutil.Process] = []

    @property
    def dsn(self) -> str:
        return self.one.dsn("telltale")

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        account, log = unprivileged(), self.folder.parent / f"postgres-{time.monotonic_ns()}.log"
        self.process = _start(
            self.one.command(), log=log, cwd=self.one.place, account=account.popen() if account else None
        )
        await_true(lambda: server.answers(self.one.dsn("postgres")), what="PostgreSQL", within_s=WAIT_S_MAX)
        server.ensure_database(self.one.dsn("postgres"), "telltale")

    def _all(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def kill(self) -> None:
        every = self._all()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(every[1:], timeout=30)

    def end(self) -> None:
        self.process.send_signal(server.STOP_SIGNAL)
        self.process.wait(60)

    def freeze(self) -> None:
        self._frozen = self._all()
        for each in self._frozen:
            with suppress(psutil.NoSuchProcess):
                each.suspend()

    def thaw(self) -> None:
        for each in reversed(self._frozen):
            with suppress(psutil.NoSuchProcess):
                each.resume()
        self._frozen = []

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode(), arguments or None).fetchall()

    def close(self) -> None:
        self.thaw()
        if self.runs:
            self.kill()
        self.one.remove()


class Alarms:
    """Listens to the topic, and to the watchdog's inbox where it speaks past the broker."""

    def __init__(self, address: str, inbox: Path) -> None:
        self.heard: list[tuple[float, AlarmEvent]] = []
        self._inbox, self._known = inbox, set[Path]()
        self._stop = threading.Event()
        self._consumer = Consumer({**reader(address, group="fault-book"), "log_level": 0})
        parts = self._consumer.list_topics(ALARMS, timeout=30).topics[ALARMS].partitions
        self._consumer.assign([TopicPartition(ALARMS, part, 0) for part in parts])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(500, timeout=0.05):
                if message.error() is None and message.value():
                    self.heard.append((time.monotonic(), read_alarm(message.value())))
            for path in set(self._inbox.glob("*.json")) - self._known:
                self._known.add(path)
                self.heard.append((time.monotonic(), read_alarm(path.read_bytes())))

    def since(self, moment: float) -> list[AlarmEvent]:
        return [event for at, event in list(self.heard) if at >= moment]

    def first(self, rule: str, state: str, *, since: float, source: str = "") -> float | None:
        """Seconds from `since` to the first such event."""
        for at, event in list(self.heard):
            if (
                at >= since
                and (event.data.rule, str(event.data.state)) == (rule, state)
                and source in event.data.source
            ):
                return at - since
        return None

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()


@dataclass
class Pipeline:
    """All of it. `devices` never cease; `spawn` adds others for one scenario."""

    folder: Path
    kafka: Any  # Kafka or GivenKafka
    database: Database
    services: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(SERVICES))
    running: dict[str, Service] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    restarts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self.kafka.start()
        self.database.start()
        self.wire = Wire(self.kafka.address)
        self.stack = self.folder / "stack"
        self.steady = [f"steady-{number}" for number in range(4)]
        self.configured: dict[str, Device] = {}
        self.configure(*(make_device(device, len(CHANNELS), alarm_rules=(SOON,)) for device in self.steady))
        for name in self.services:
            self.start(name)
        self.alarms = Alarms(self.kafka.address, self.stack / "notify" / "inbox")
        self.load = Load(self.kafka.line.address, self.folder / "spool", self.steady, keep_s=86_400.0)
        self._tender = threading.Thread(target=self._tend, daemon=True)
        self._tender.start()
        for name in self.services:
            self.running[name].await_ready()

    def configure(self, *devices: Device) -> None:
        self.wire.configure(*devices)
        self.configured |= {device.device_id: device for device in devices}

    @property
    def env(self) -> dict[str, str]:
        return {
            "TELLTALE_KAFKA": self.kafka.address,
            "TELLTALE_DATABASE": self.database.dsn,
            "TELLTALE_DIR": str(self.stack),
            **self.settings,
        }

    def start(self, name: str, **changes: str) -> Service:
        """Starts a service and looks after it from then on."""
        with self._lock:
            self.wanted.add(name)
            self.running[name] = Service(list(self.services[name]), self.folder, {**self.env, **changes})
            return self.running[name]

    def kill(self, name: str) -> None:
        """At once; whoever looks after it starts it again."""
        with suppress(AssertionError):
            self.running[name].kill()

    def take_away(self, name: str, *, kindly: bool = False) -> None:
        """Ended, and not started again."""
        with self._lock:
            self.wanted.discard(name)
            if kindly:
                self.running[name].stop()
            else:
                self.running[name].kill()

    def _tend(self) -> None:
        """As the supervisor does."""
        while not self._stop.wait(0.2):
            with self._lock:
                for name in [name for name in self.wanted if not self.running[name].lives]:
                    self.restarts[name] += 1
                    self.start(name)

    def heal(self) -> None:
        """Everything there and at work, as a scenario may expect it."""
        self.kafka.line.heal()
        self.database.thaw()
        if not self.kafka.runs:
            self.kafka.start()
        if not self.database.runs:
            self.database.start()
        for name in self.services:
            if name not in self.wanted:
                self.start(name)
        for name in self.services:
            self.running[name].await_ready()
        self.load.unmute(*self.load.muted)

    def all_is_sent(self) -> None:
        """What the steady devices have accepted by now is in Kafka."""
        wanted = sum(self.load.counts().values()) * len(CHANNELS)
        self.must(lambda: self.load.edge.counts().sent >= wanted, what="all is sent")

    def must(self, happened: Callable[[], bool], *, what: str, within_s: float = WAIT_S_MAX) -> None:
        """Waits for it; fails with what was heard and said meanwhile when it does not happen."""
        began = time.monotonic()
        while not happened():
            if time.monotonic() > began + within_s:
                heard = [(e.data.rule, e.data.source, str(e.data.state)) for e in self.alarms.since(began - 60)]
                print("alarms:", *heard, sep="\n  ")
                for name, service in self.running.items():
                    print(
                        f"--- {name}, restarted {self.restarts[name]} times", service.log.read_text()[-3000:], sep="\n"
                    )
                print(self.kafka.says_of_transactions())
                pytest.fail(f"{what}: not within {within_s} s")
            time.sleep(0.05)

    def command(self, *words: str, code: int = 0) -> str:
        """What one of telltale's commands says here."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env={**os.environ, **self.env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    # What is there

    def stored(self, device: str, first: int, end: int, *, step_s: int = 1) -> int:
        """How many of the rows [first, end) of a device are stored with all their channels."""
        span = (START_US // US + first * step_s, START_US // US + end * step_s)
        ((count,),) = self.database.rows(STORED.format("count(*)"), device, *span)
        return int(count) // len(CHANNELS)

    def lost(self, device: str, first: int, end: int, *, step_s: int = 1) -> int:
        """Readings of these rows that are not stored. Those that are have the right values."""
        span = (START_US // US + first * step_s, START_US // US + end * step_s)
        columns = "right(channel, 1)::int, extract(epoch FROM time)::bigint, logged, value"
        found = np.array(self.database.rows(STORED.format(columns), device, *span)).reshape(-1, 4)
        channels, seconds = found[:, 0].astype(int), found[:, 1].astype(int)
        numbers, odd = np.divmod(seconds - span[0], step_s)
        right = series(np.arange(first, end))[numbers, channels]
        assert not odd.any()
        assert (found[:, 2] == right).all()
        assert np.allclose(found[:, 3], calibrated(right), rtol=1e-12, atol=0)
        assert len(np.unique(numbers * len(CHANNELS) + channels)) == len(found)
        return (end - first) * len(CHANNELS) - len(found)

    def resend(self, first: int, end: int) -> None:
        """The steady devices' edge sends rows [first, end) again, out of what it keeps."""
        for device in self.steady:
            words = ("--spool", str(self.load.edge.spool.folder), "--device", device)
            self.command("edge", "spool", "resend", *words, "--from", stamp(first), "--to", stamp(end))

    def gaps(self, first: dict[str, int], end: dict[str, int]) -> dict[str, int]:
        """Rows that are missing by what `telltale imports gaps` says, by device."""
        found = {}
        for device in self.steady:
            words = ("--device", device, "--from", stamp(first[device]), "--to", stamp(end[device]), "--json")
            found[device] = sum(each["missing"] for each in json.loads(self.command("imports", "gaps", *words))["gaps"])
        return found

    def clean_ends(self) -> dict[int, int]:
        consumer = Consumer(reader(self.kafka.address, group="fault-book-look"))
        try:
            return {
                part: consumer.get_watermark_offsets(TopicPartition(READINGS_CLEAN, part), timeout=30)[1]
                for part in range(PARTITIONS)
            }
        finally:
            consumer.close()

    def twice(self, since: dict[int, int], *, but: str) -> int:
        """Readings that the stage committed more than once after these offsets, generation by generation."""
        consumer = Consumer(reader(self.kafka.address, group="fault-book-look"))
        seen: dict[tuple[str, int, str, int], list[str]] = {}  # (device, generation, channel, time): where it lies
        try:
            consumer.assign([TopicPartition(READINGS_CLEAN, part, at) for part, at in since.items()])
            left = set(since)
            while left:
                for message in consumer.consume(10_000, timeout=0.05):
                    if message.error() is None:
                        frame = self.wire.codec.decode_frame(CleanFrame, message.value())
                        where = f"{message.partition()}/{message.offset()}"
                        for channel in frame.channels:
                            for at in frame.times.tolist():
                                seen.setdefault((frame.device_id, frame.generation, channel, at), []).append(where)
                    elif message.error().code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
        finally:
            consumer.close()
        again = {reading: places for reading, places in seen.items() if len(places) > 1 and reading[0] != but}
        for (device, generation, channel, at), places in list(again.items())[:50]:
            print(f"twice: {device}/{channel}, generation {generation}, row {(at - START_US) / US:g} at {places}")
        return sum(len(places) - 1 for places in again.values())

    def close(self) -> None:
        self._stop.set()
        self._tender.join()
        self.load.close()
        self.alarms.close()
        for service in self.running.values():
            if service.lives:
                service.wake()
                service.ask_to_end()
        for service in self.running.values():
            service.end()
        self.kafka.close()
        self.database.close()


class Scenario:
    """One fault: when it began, when it was mended, what was heard of it; in the end the oracle and the row."""

    def __init__(self, pipeline: Pipeline, book: Book, devices: Sequence[str], *more: Load) -> None:
        """`devices` are those whose rows count: of the pipeline's load or of `more`."""
        self.pipeline, self.book, self.devices, self._loads = pipeline, book, devices, (pipeline.load, *more)
        self.first = {device: self.counts().get(device, 0) for device in devices}
        self.ends: dict[str, int] = {}
        self.clean = pipeline.clean_ends()
        self.began = self.mended_at = time.monotonic()
        self.told: dict[tuple[str, str], str] = {}
        self.recovered_s: float | None = None
        self.corrected = ""  # a device whose rows come once more, when the row behind has decided on their flag
        self.others = 0  # readings beside those, at which the test looks itself

    def counts(self) -> dict[str, int]:
        """Rows accepted, by device."""
        return {device: count for load in self._loads for device, count in load.counts().items()}

    def fault(self) -> None:
        """It happens now."""
        self.began = time.monotonic()

    def mended(self) -> None:
        self.mended_at = time.monotonic()

    def alarm(self, rule: str, *, source: str = "") -> None:
        """Waits until it is raised."""
        self._await(rule, "raised", self.began, source)
        after = self.pipeline.alarms.first(rule, "raised", since=self.began, source=source)
        self.told[rule, source] = f"{rule} {after:.1f} s"

    def cleared(self, rule: str, *, source: str = "") -> None:
        self._await(rule, "cleared", self.mended_at, source)
        after = self.pipeline.alarms.first(rule, "cleared", since=self.mended_at, source=source)
        self.told[rule, source] += f", cleared {after:.1f} s"

    def _await(self, rule: str, state: str, since: float, source: str) -> None:
        def happened() -> bool:
            return self.pipeline.alarms.first(rule, state, since=since, source=source) is not None

        until = time.monotonic() + WAIT_S_MAX
        while not happened():
            if time.monotonic() > until:
                heard = [
                    (e.data.rule, e.data.source, str(e.data.state)) for e in self.pipeline.alarms.since(self.began)
                ]
                pytest.fail(f"{rule} {state} of {source or 'any source'} not within {WAIT_S_MAX} s; heard {heard}")
            time.sleep(0.05)

    def accepts(self) -> None:
        """Devices are not held up by it."""
        before = self.pipeline.load.counts()
        await_true(
            lambda: all(self.pipeline.load.counts()[each] > before[each] + 5 for each in self.pipeline.steady),
            what="accepting goes on",
            within_s=WAIT_S_MAX,
        )

    def flows(self) -> float:
        """What the steady devices accept now is stored; seconds until it is."""
        since, wanted = time.monotonic(), self.pipeline.load.counts()
        for device in self.pipeline.steady:
            first = self.first.get(device, wanted[device] - 1)
            self._await_stored(device, first, wanted[device])
        return time.monotonic() - since

    def flows_on(self) -> None:
        """What steady devices accept from now on is stored, whatever became of what was before."""
        first = self.pipeline.load.counts()
        wanted = {device: first[device] + 20 for device in self.pipeline.steady}
        self.pipeline.must(
            lambda: all(self.pipeline.load.counts()[each] >= count for each, count in wanted.items()), what="accepting"
        )
        for device, end in wanted.items():
            self._await_stored(device, first[device], end)

    def recovered(self) -> None:
        """Waits until all that was accepted by now is stored; measured from the mending."""
        wanted = self.counts()
        for device in self.devices:
            if device in wanted:
                self._await_stored(device, self.first[device], wanted[device])
        self.recovered_s = time.monotonic() - self.mended_at

    def _await_stored(self, device: str, first: int, end: int) -> None:
        def there() -> bool:
            try:
                return self.pipeline.stored(device, first, end) >= end - first
            except psycopg.Error:
                return False

        self.pipeline.must(there, what=f"{device}: rows {first} to {end} stored")

    def row(self, name: str, done: str, *, seed: int | None = None) -> None:
        """The oracle, over all that the devices have accepted since the beginning; then the row."""
        ends = {**self.counts(), **self.ends}
        for device in self.devices:
            self._await_stored(device, self.first[device], ends[device])
        lost = sum(self.pipeline.lost(device, self.first[device], ends[device]) for device in self.devices)
        self.book.tell(
            name,
            done,
            accepted=sum(ends[device] - self.first[device] for device in self.devices) * len(CHANNELS) + self.others,
            lost=lost,
            twice=self.pipeline.twice(self.clean, but=self.corrected),
            alarm="; ".join(self.told.values()) or "none",
            recovered_s=self.recovered_s,
            seed=seed,
        )


class GivenKafka:
    """A broker that others use, too."""

    def __init__(self, address: str) -> None:
        self.address, self.runs, self.has_disk = address, True, False

    @property
    def line(self) -> "GivenKafka":
        """No proxy: the broker itself."""
        return self

    def says_of_transactions(self) -> str:
        return ""

    def heal(self) -> None: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class GivenDatabase(Database):
    """A database on a server that others use, too."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._frozen = dsn, []

    @property
    def dsn(self) -> str:
        return self._dsn

    @property
    def runs(self) -> bool:
        return True

    def start(self) -> None: ...
    def close(self) -> None: ...


Begin = Callable[..., Scenario]


@contextmanager
def pipeline_in(folder: Path, **about: Any) -> Iterator[Pipeline]:
    """Made, and taken down whatever happens."""
    folder.chmod(0o711)  # as root the database runs under an account that must be able to pass through
    kafka, database = Kafka(folder / "kafka"), Database(folder / "postgres")
    try:
        made = Pipeline(folder, kafka, database, **about)
    except BaseException:
        kafka.close()
        database.close()
        raise
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def running_pipeline(stack_folder: Path, request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """One for the module."""
    folder = stack_folder / f"book-{request.module.__name__.rpartition('.')[2]}"
    folder.mkdir()
    with pipeline_in(folder) as made:
        yield made


@pytest.fixture
def pipeline(running_pipeline: Pipeline) -> Pipeline:
    """Healthy at the beginning."""
    running_pipeline.heal()
    return running_pipeline


@pytest.fixture
def begin(pipeline: Pipeline, book: Book) -> Begin:
    """Begins a scenario: by default all rows of the steady devices count."""

    def make(*devices: str) -> Scenario:
        scenario = Scenario(pipeline, book, devices or pipeline.steady)
        scenario.flows()
        return scenario

    return make

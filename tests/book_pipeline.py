"""A whole pipeline of real processes for the fault book: its own broker and database, services that are started again
when they end, devices that never cease, and somebody who listens to alarms.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from book_devices import CHANNELS, Load, series, stamp
from confluent_kafka import Consumer, TopicPartition
from fix_faultbook import WAIT_S_MAX
from fix_proxy import Proxy
from fix_services import Service
from fix_stage import START_US, US, Wire, calibrated, make_device
from own_servers import Listener, OwnBroker, OwnDatabase
from small_disk import mount, unmount

from infra import ports
from infra.client import reader
from infra.kafka.broker import java_command
from infra.offsets import span
from infra.provision import provision
from infra.whole_topic import partition_to_end
from schemas.alarms import AlarmEvent, AlarmState, read_alarm
from schemas.devices import AlarmRule, Device
from schemas.frames import CleanFrame
from schemas.records import Rejected
from schemas.topics import ALARMS, READINGS_CLEAN, READINGS_REJECTED

PARTITIONS = 4
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
    "TELLTALE_WATCHDOG_CALM_S": "4",
    "TELLTALE_WATCHDOG_DISK_SHARE_MIN": "0",
    "TELLTALE_WATCHDOG_DISK_HOURS_MIN": "0",
}
LINKS: dict[str, tuple[str, dict[str, float]]] = {
    "flapping every second": ("line refused and cut for a second, then there for a second", {}),
    "64 kbit/s": ("8,000 bytes a second each way", {"bytes_per_s": 8_000}),
    "5 % loss": (
        "of 1,400 bytes each, one in 20 waits for 0.3 s (TCP's retransmission), one in 400 breaks its connection",
        {"stall_chance": 0.05, "cut_chance": 0.0025},
    ),
    "2 s latency": ("each piece waits for a second, each way", {"delay_s": 1.0}),
}
"""What was done, and what of the line's proxy is set for it."""
SOON = AlarmRule.model_validate({"name": "sequence_gap", "kind": "sequence_gap", "limit": 0, "on_delay_s": 2})
"""Missing frames are told of after 2 s instead of 10 minutes."""
SERVICES = {name: (name, "run") for name in ("streams", "sink", "watchdog")}
STORED = """
SELECT {} FROM readings JOIN sensors USING (sensor_id)
WHERE device_id = %s AND time >= to_timestamp(%s) AND time < to_timestamp(%s)"""


class Kafka(OwnBroker):
    """The pipeline's: edges come to it by a line of their own; on a small disk of its own where root makes one."""

    DISK = "700m"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.has_disk = mount(folder, self.DISK)
        port = ports.free()
        self.line = Proxy(port)
        super().__init__(folder, Listener("EDGE", port, self.line.address))

    def start(self, **env: str) -> None:
        """Makes the topics that are missing, too."""
        super().start(**env)
        provision(self.address, partitions=PARTITIONS)

    def says_of_transactions(self) -> str:
        """For who looks into a failure: which are open, and which nobody will end."""
        if not self.runs:
            return "no broker"
        tool = [
            *java_command(self.class_path, heap="128m", level="ERROR", brief=True),
            *("org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", self.address),
        ]
        asked = [["list"], ["find-hanging", "--broker-id", "1"]]
        asked += [
            ["describe-producers", "--topic", "__consumer_offsets", "--partition", str(part)] for part in range(4)
        ]
        said = [subprocess.run([*tool, *words], capture_output=True, text=True, check=False) for words in asked]
        return "\n".join(f"{words}\n{each.stdout}{each.stderr[-300:]}" for words, each in zip(asked, said, strict=True))

    def lose_everything(self) -> None:
        self.kill()
        for each in self.folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    def close(self) -> None:
        super().close()
        self.line.close()
        if self.has_disk:
            unmount(self.folder)


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

    def standing(self, *, since: float) -> set[tuple[str, str]]:
        """(rule, source) of those told of since then that are not over. One that chatters stands for ten minutes."""
        events = sorted(self.since(since), key=lambda event: event.time)
        last = {(event.data.rule, event.data.source): event.data for event in events}
        return {
            key for key, alarm in last.items() if alarm.state is not AlarmState.CLEARED and alarm.reason != "chattering"
        }

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()


@dataclass
class Pipeline:
    """All of it. `devices` never cease; `spawn` adds others for one scenario."""

    folder: Path
    kafka: Any  # Kafka or GivenKafka
    database: OwnDatabase
    services: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(SERVICES))
    running: dict[str, Service] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    restarts: Counter[str] = field(default_factory=Counter)
    changes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of its environment, with which each service was started."""

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
        try:
            for name in self.services:
                self.running[name].await_ready()
        except BaseException:  # nobody else knows of them yet
            self._end_parts()
            raise

    def configure(self, *devices: Device) -> None:
        self.wire.configure(*devices)
        self.configured |= {device.device_id: device for device in devices}

    def load_of(self, *devices: str, name: str, **settings: Any) -> Load:
        """An edge of their own."""
        return Load(self.kafka.address, self.folder / f"spool-{name}", devices, **settings)

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
            self.changes[name] = changes
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
                    self.start(name, **self.changes[name])

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
        with self.load.paused():
            self.must(lambda: self.load.edge.drained, what="all is sent")

    def must(self, happened: Callable[[], bool], *, what: str, within_s: float = WAIT_S_MAX) -> None:
        """Waits for it; fails with what was heard and said meanwhile when it does not happen."""
        began = time.monotonic()
        while not happened():
            if time.monotonic() > began + within_s:
                heard = [(e.data.rule, e.data.source, str(e.data.state)) for e in self.alarms.since(began - 60)]
                print("alarms:", *heard, sep="\n  ")
                print("edge:", self.load.edge.progress, self.load.counts())
                for name, service in self.running.items():
                    print(
                        f"--- {name}, restarted {self.restarts[name]} times", service.log.read_text()[-3000:], sep="\n"
                    )
                print(self.kafka.says_of_transactions())
                pytest.fail(f"{what}: not within {within_s} s")
            time.sleep(0.05)

    def command(self, *words: str, code: int = 0, **changes: str) -> str:
        """What one of telltale's commands says here, with changes in its environment."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env={**os.environ, **self.env, **changes},
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

    def rejected(self, **wanted: str) -> list[Rejected]:
        """What was rejected and says so of itself."""
        found = [self.wire.codec.decode(Rejected, each.value()) for each in self.wire.read(READINGS_REJECTED)]
        return [each for each in found if all(str(getattr(each, name)) == value for name, value in wanted.items())]

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
            return {part: span(consumer, READINGS_CLEAN, part, within_s=30)[1] for part in range(PARTITIONS)}
        finally:
            consumer.close()

    def twice(self, since: dict[int, int], *, but: str, sent: Mapping[tuple[str, str, int], int]) -> int:
        """Readings that the stage committed more than once after these offsets, generation by generation. Those of
        (device, channel, time) that the device itself has sent so often may be there so often."""
        consumer = Consumer(reader(self.kafka.address, group="fault-book-look"))
        seen: dict[tuple[str, int, str, int], list[str]] = {}  # (device, generation, channel, time): where it lies
        try:
            for part, at in since.items():
                for message in partition_to_end(consumer, READINGS_CLEAN, part, since=at):
                    frame = self.wire.codec.decode_frame(CleanFrame, message.value())
                    where = f"{part}/{message.offset()}"
                    for channel in frame.channels:
                        for at_us in frame.times.tolist():
                            seen.setdefault((frame.device_id, frame.generation, channel, at_us), []).append(where)
        finally:
            consumer.close()
        may = {(device, run, channel, at): sent.get((device, channel, at), 1) for device, run, channel, at in seen}
        again = {
            reading: places for reading, places in seen.items() if len(places) > may[reading] and reading[0] != but
        }
        for (device, generation, channel, at), places in list(again.items())[:50]:
            print(f"twice: {device}/{channel}, generation {generation}, row {(at - START_US) / US:g} at {places}")
        return sum(len(places) - may[reading] for reading, places in again.items())

    def close(self) -> None:
        self._end_parts()
        self.kafka.close()
        self.database.close()

    def _end_parts(self) -> None:
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


class GivenDatabase(OwnDatabase):
    """A database on a server that others use, too."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._frozen = dsn, []

    @property
    def dsn(self) -> str:
        return self._dsn

    @property
    def runs(self) -> bool:
        return True

    def start(self, **env: str) -> None: ...
    def close(self) -> None: ...

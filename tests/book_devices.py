"""Devices of the fault book: each has one endless series, and any row of it can be computed again."""

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from fix_faultbook import WAIT_S_MAX
from fix_services import await_true
from fix_stage import START_US, US

from producers.edge import Edge
from producers.settings import EdgeSettings
from producers.spool import Rows
from schemas.devices import Sensor

CHANNELS = ("c0", "c1", "c2")
QUICK = {"retry_first_s": 0.1, "retry_s_max": 0.5, "linger_s": 0.05, "heartbeat_s": 1.0}


def series(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logged values of these rows, (row, channel): they tell which they are, and no neighbours are alike."""
    return 10.0 + (numbers[:, None] * 7 + np.arange(len(CHANNELS))[None, :] * 1000) % 3001 / 100.0


def rows_of(device: str, first: int, count: int, *, step_s: int = 1) -> Rows:
    numbers = np.arange(first, first + count, dtype=np.int64)
    return Rows(device, START_US + numbers * step_s * US, CHANNELS, series(numbers))


def sensor(channel: str, **about: Any) -> Sensor:
    """A channel with windows of a minute."""
    return Sensor(
        channel=channel, point=channel, quantity="wind_speed", unit="m/s", statistic="avg", windows_s=(60,), **about
    )


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

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is accepted meanwhile."""
        with self._turn:
            yield

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
        self._context.set_forkserver_preload(["book_devices", "producers.delivery.sender"])
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

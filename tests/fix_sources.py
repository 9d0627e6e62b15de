"""An intake that keeps what a source hands over, and devices for it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from producers.sources.port import Source
from producers.spool import Rows


@dataclass
class Kept:
    """See `producers.sources.port.Intake`."""

    device_id: str = "mast-7"
    rows: list[Rows] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    where: str | None = None

    def offer(self, rows: list[Rows]) -> None:
        self.rows += rows

    def keep(self, rows: list[Rows], *, place: str | None = None) -> None:
        self.rows += rows
        self.where = place

    def count(self, readings: int) -> None:
        pass

    def odd(self, what: str) -> None:
        self.oddities.append(what)

    def tell(self, what: str) -> None:
        self.told.append(what)

    def place(self) -> str | None:
        return self.where

    @property
    def cells(self) -> list[tuple[str, str, float]]:
        """(device, channel, value) in the order of coming."""
        return [
            (each.device_id, channel, float(value))
            for each in self.rows
            for row in each.values
            for channel, value in zip(each.channels, row, strict=True)
        ]

    @property
    def times(self) -> list[int]:
        return [int(at) for each in self.rows for at in each.times]


Running = Callable[[Source, Kept], threading.Event]


@pytest.fixture
def running() -> Iterator[Running]:
    """Runs sources in threads; `set` on what it gives ends one. What a source raises fails the test."""
    threads: list[tuple[threading.Thread, threading.Event]] = []
    failures: list[BaseException] = []

    def run(source: Source, intake: Kept) -> threading.Event:
        stop = threading.Event()

        def live() -> None:
            try:
                source.run(intake, stop)
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)

        thread = threading.Thread(target=live)
        threads.append((thread, stop))
        thread.start()
        return stop

    yield run
    for thread, stop in threads:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
    if failures:
        raise failures[0]

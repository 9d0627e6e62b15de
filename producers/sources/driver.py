"""A sensor driver written in Python, called every so often. Knows the protocol; knows no sensor.

    class Bme280:
        def __init__(self, bus: int = 1) -> None: ...             # gets the table `options` of edge.toml
        def read(self) -> dict[str, float]:                       # called every `every_s`
            return {"temperature": 21.5, "humidity": 48.0}        # now, by the edge's clock
        def close(self) -> None: ...

`read` may also give readings with times: an iterable of (aware datetime or UTC microseconds or None, channel, value).
An exception closes the driver; a new one is made after a while.
"""

import importlib
import math
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from producers.edge import Time, time_us, wall_clock_us
from producers.sources.port import Intake
from producers.sources.text import Cell, arrays
from schemas.errors import Refused


class Driver(Protocol):
    """What an entry point must make."""

    def read(self) -> Mapping[str, float] | Iterable[tuple[Time, str, float]]:
        """Readings since the last call. May wait for the sensor; may raise."""
        ...

    def close(self) -> None:
        """The last call, also after an exception of `read`."""
        ...


@dataclass(frozen=True, slots=True)
class Python:
    """`entry` is module:callable; modules beside `folder` are found too."""

    entry: str
    every_s: float
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, intake: Intake, stop: threading.Event) -> None:
        driver = self._made()
        try:
            due = time.monotonic()
            while not stop.is_set():
                asked_us = wall_clock_us()
                cells = list(_cells(driver.read(), intake.device_id))
                if cells:
                    intake.offer(arrays(cells, now_us=asked_us))
                due = max(due + self.every_s, time.monotonic())  # a slow sensor is not asked twice at once
                stop.wait(due - time.monotonic())
        finally:
            driver.close()

    def _made(self) -> Driver:
        module, _, name = self.entry.partition(":")
        if str(self.folder) not in sys.path:
            sys.path.append(str(self.folder))
        try:
            factory = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise Refused(f"{self.entry}: {error}") from None
        driver: Driver = factory(**self.options)
        for method in ("read", "close"):
            if not callable(getattr(driver, method, None)):
                raise Refused(f"{self.entry}: what it makes has no method {method}()")
        return driver


def _cells(found: Mapping[str, float] | Iterable[tuple[Time, str, float]], device_id: str) -> Iterable[Cell]:
    readings = [(None, *item) for item in found.items()] if isinstance(found, Mapping) else found
    for at, channel, value in readings:
        number = float("nan") if value is None else float(value)
        yield (
            device_id,
            None if at is None else time_us(at),
            str(channel),
            number if math.isfinite(number) else math.nan,
        )

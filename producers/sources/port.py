"""What a source is to the edge, and the edge to a source. Types only.

A source that returns has no more; one that raises has failed and is started again after a while.
"""

import threading
from typing import Protocol

from producers.spool import Rows


class Stopped(Exception):  # noqa: N818 - what has happened
    """The edge ends while a source waited for room in the spool."""


class Intake(Protocol):
    """Where one source hands its readings over. Safe to call from its thread."""

    @property
    def device_id(self) -> str:
        """Whose readings they are where the source does not say."""
        ...

    def offer(self, rows: list[Rows]) -> None:
        """Readings of now, which cannot wait: on disk when this returns, or counted as refused and told."""
        ...

    def keep(self, rows: list[Rows], *, place: str | None = None) -> None:
        """Readings that are kept elsewhere, with the place behind them: waits for room. Raises `Stopped`."""
        ...

    def count(self, readings: int) -> None:
        """Readings that went into the spool by another way."""
        ...

    def odd(self, what: str) -> None:
        """Something that could not be taken; it is counted, and the last one told."""
        ...

    def tell(self, what: str) -> None:
        """What there is to know of its state, for people."""
        ...

    def place(self) -> str | None:
        """How far this source had come, from earlier runs too."""
        ...


class Source(Protocol):
    """One source of one run; it is made anew for the next one."""

    def run(self, intake: Intake, stop: threading.Event) -> None:
        """Until `stop` is set, within a second, or there is no more."""
        ...

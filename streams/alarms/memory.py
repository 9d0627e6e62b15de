"""What is remembered of a device's alarms. Pure: values; no rule and no clock.

Replaced, never changed: a step that throws has changed nothing.
"""

from dataclasses import dataclass, field

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.alarms.lifecycle import COVERS, Phase
from streams.alarms.rules import Key

NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule about one source that is not, or not long, normal. Times in µs UTC."""

    rule: str
    source: str
    phase: Phase = Phase.NORMAL
    below: Phase = Phase.NORMAL  # under a cover
    condition: bool = False
    since_us: int = NEVER  # when the condition last changed
    alarm_id: str = ""  # "": none is under way
    onset_us: int = NEVER  # when the condition came that raised it
    value: float = 0.0  # at the onset
    step: int = 0  # events that this alarm has had
    until_us: int = NEVER  # end of the shelf, or of being held back
    raises: int = 0  # so many since
    raises_since_us: int = NEVER

    @property
    def key(self) -> Key:
        return self.rule, self.source

    @property
    def inner(self) -> Phase:
        """The phase under any cover."""
        return self.below if self.phase in COVERS else self.phase


@dataclass(frozen=True, slots=True)
class Judging:
    """Entries, and up to where each channel's values have been judged."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    channels: tuple[str, ...] = ()  # (c,)
    times: Longs = field(default_factory=lambda: np.empty(0, np.int64))  # (c,) newest reading judged
    values: Doubles = field(default_factory=lambda: np.empty(0))  # (c,) its value; NaN: missing

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Judging)
            and self.entries == other.entries
            and self.channels == other.channels
            and np.array_equal(self.times, other.times)
            and np.array_equal(self.values, other.values, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def aligned(self, channels: tuple[str, ...]) -> "Judging":
        """For another set of channels: new ones begin unjudged."""
        if self.channels == channels:
            return self
        times, values = np.full(len(channels), NEVER, np.int64), np.full(len(channels), np.nan)
        of = {name: at for at, name in enumerate(self.channels)}
        for at, name in enumerate(channels):
            if name in of:
                times[at], values[at] = self.times[of[name]], self.values[of[name]]
        return Judging(self.entries, channels, times, values)


@dataclass(frozen=True, slots=True)
class Tally:
    """Readings that came in the period [from_us, from_us + TALLY_US), by the broker's clock."""

    from_us: int = 0
    readings: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Speaker:
    """A spool that has sent heartbeats of the device."""

    lost_readings: int = 0  # that it had dropped or refused at its last heartbeat
    back_us: int = NEVER  # when it last spoke again after another spool had


@dataclass(frozen=True, slots=True)
class AlarmStates:
    """Everything that the rules of one device need to remember."""

    live: Judging = field(default_factory=Judging)
    # After a replay's start: the same data judged again from nothing, so that what stands is not disturbed.
    reread: Judging = field(default_factory=Judging)
    reread_until_us: int = NEVER  # readings up to here were judged before
    sensors_heard: dict[str, int] = field(default_factory=dict)  # when each was, of those with a silence rule
    frames_missing: int = 0  # as of the last look
    frames_given_up: int = 0  # missing frames that somebody has acknowledged
    speakers: dict[str, Speaker] = field(default_factory=dict)  # by spool, the latest last
    tally: Tally = Tally()

    @property
    def speaker(self) -> tuple[str, Speaker]:
        """The spool of the last heartbeat; "": there was none."""
        return next(reversed(self.speakers.items()), ("", Speaker()))

    @property
    def standing(self) -> tuple[Entry, ...]:
        """Alarms that are under way."""
        return tuple(entry for entry in self.live.entries.values() if entry.alarm_id)

"""What parameters mean everywhere in the API: times with a zone, sensors by name or number, flags by word or number."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator, AwareDatetime, StringConstraints

from dashboard.web.problems import Problem
from schemas.quality import Flag

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times that make sense; the bounds keep every conversion from overflowing."""


def _sensible(time: datetime) -> datetime:
    if not EARLIEST <= time <= LATEST:
        raise ValueError(f"expected a time between {EARLIEST:%Y} and {LATEST:%Y}")
    return time.astimezone(UTC)


Time = Annotated[AwareDatetime, AfterValidator(_sensible)]
"""As clients may say it: with a zone, in UTC. What is stored lies where it may: `schemas.records.Utc`."""

Text = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00]*$")]

Begin = Annotated[
    Time | None, Query(alias="from", description="From this time on, such as 2026-11-24T08:00Z. A zone is needed.")
]
End = Annotated[Time | None, Query(alias="to", description="Before this time. A zone is needed.")]
Station = Annotated[Text | None, Query(description="Of this station.")]
Device = Annotated[Text | None, Query(description="Of this device.")]


class Period:
    """[begin, end); None: unbounded. Raises `Problem` 422 where it is empty."""

    def __init__(self, begin: Begin = None, end: End = None) -> None:
        if begin and end and begin >= end:
            raise Problem(422, f"from: {begin.isoformat()} must be before to, {end.isoformat()}")
        self.begin, self.end = begin, end


During = Annotated[Period, Depends()]


def flags_of(words: str | None) -> tuple[int, ...] | None:
    """Flags by number or name, with commas between; None: all. Raises `Problem` 422."""
    if not words:
        return None
    found = []
    for word in words.split(","):
        cleaned = word.strip()
        try:
            found.append(Flag(int(cleaned)) if cleaned.isdecimal() else Flag[cleaned.upper()])
        except (KeyError, ValueError):
            known = ", ".join(f"{flag.value} {flag.name.lower()}" for flag in Flag)
            raise Problem(422, f'quality: expected some of {known}, got "{cleaned}"') from None
    return tuple(int(flag) for flag in found)

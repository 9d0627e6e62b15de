"""A file's local stamps as UTC beginnings of their intervals. Pure; what is not told is asked for, never guessed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np

from producers.files.logger_file import LoggerFile, Stamping
from producers.files.numbers import NOT_A_TIME
from schemas.columnar import Longs
from schemas.devices import Device, Logger
from schemas.errors import Refused

MINUTE_US = 60_000_000
ZONES_US = 15 * 60 * MINUTE_US  # how far a local stamp of unknown zone may be from UTC, and an interval

Span = tuple[int, int]
"""First and last local stamp, microseconds."""


@dataclass(frozen=True, slots=True)
class Era:
    """How stamps are meant within [from_us, to_us), UTC; None is unbounded."""

    shift_us: int  # taken from a local stamp it gives the UTC beginning
    from_us: int | None = None
    to_us: int | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """How a file's stamps become UTC, perhaps differently over the years."""

    eras: tuple[Era, ...]
    where: str

    @classmethod
    def of(
        cls,
        told: Stamping,
        *,
        device: Device | None,
        name: str,
        span: Callable[[], Span] | None = None,
        custom: Stamping | None = None,
    ) -> Self:
        """From what options and description told, else from the device. Raises `Refused` with the question.

        `span` says from when to when the file's stamps go: it is asked, once, when some logger's clock is not known,
        and then only loggers that were in use in that time count. `custom` holds where nobody says otherwise.
        """
        try:
            return cls._of(told, device.loggers if device else (), device, name, custom)
        except Refused:
            if span is None or device is None or len(device.loggers) < 2:
                raise
            first, last = span()
        used = tuple(one for one in device.loggers if _in_use(one, first - ZONES_US, last + ZONES_US))
        return cls._of(told, used or device.loggers, device, name, custom)

    @classmethod
    def _of(
        cls,
        told: Stamping,
        loggers: tuple[Logger, ...],
        device: Device | None,
        name: str,
        custom: Stamping | None,
    ) -> Self:
        eras = tuple(_era(told, logger, device, name, custom or Stamping()) for logger in loggers or (Logger(),))
        if len({era.shift_us for era in eras}) == 1:
            eras = (Era(eras[0].shift_us),)  # one answer for all times: no need of dates
        return cls(eras, name)

    def begin_utc(self, stamps: Longs, lines: Longs) -> Longs:
        """UTC microseconds. Raises `Refused` for a row that no logger of the device covers."""
        if len(self.eras) == 1 and self.eras[0].from_us is None and self.eras[0].to_us is None:
            return stamps - self.eras[0].shift_us
        out = np.full(len(stamps), NOT_A_TIME, np.int64)
        for era in self.eras:
            times = stamps - era.shift_us
            inside = out == NOT_A_TIME
            if era.from_us is not None:
                inside &= times >= era.from_us
            if era.to_us is not None:
                inside &= times < era.to_us
            out[inside] = times[inside]
        if (out == NOT_A_TIME).any():
            line = int(lines[np.argmax(out == NOT_A_TIME)])
            raise Refused(
                f"{self.where}, line {line}: no logger of the device covers this time, so its zone is not known; "
                "say it for the whole file: --utc-offset +HH:MM --stamp begin|end --interval SECONDS"
            )
        return out


def _in_use(logger: Logger, first: int, last: int) -> bool:
    begin, end = _us(logger.valid_from), _us(logger.valid_to)
    return (begin is None or begin <= last) and (end is None or end > first)


def span_of(file: LoggerFile) -> Span:
    """Of the stamps of a file opened for this: it is read to its end. Raises `Refused` for no readable row."""
    first, last = None, None
    for chunk in file.chunks(lambda _: None):
        low, high = int(chunk.stamps.min()), int(chunk.stamps.max())
        first = low if first is None else min(first, low)
        last = high if last is None else max(last, high)
    if first is None or last is None:
        raise Refused("no readable row")
    return first, last


def _era(told: Stamping, logger: Logger, device: Device | None, name: str, custom: Stamping) -> Era:
    said = merged(told, stamping_of(logger, device), custom)
    questions = open_questions(said)
    if questions:
        who = f"nor does device {device.device_id}" if device else "and no device configuration was read"
        raise Refused(f"{name} does not say it, {who}: {'; '.join(questions)}")
    return Era(shift_us(said), _us(logger.valid_from), _us(logger.valid_to))


def stamping_of(logger: Logger, device: Device | None) -> Stamping:
    """What the configuration says of a logger's stamps."""
    interval_s = logger.interval_s or (device.interval_s if device else None)
    return Stamping(logger.utc_offset_minutes, logger.stamp, interval_s, logger.date_order)


def open_questions(said: Stamping) -> tuple[str, ...]:
    """What is still to be told before stamps can become UTC, each with the option that tells it."""
    questions = []
    if said.utc_offset_minutes is None:
        questions.append("how far is its clock from UTC? --utc-offset +HH:MM")
    if said.stamp is None:
        questions.append("does a stamp mark the beginning or the end of its interval? --stamp begin|end")
    if said.stamp != "begin" and said.interval_s is None:
        questions.append("how many seconds is an interval? --interval SECONDS")
    return tuple(questions)


def shift_us(said: Stamping) -> int:
    """What taken from a local stamp gives the UTC beginning of its interval, once there is no open question."""
    back_us = round((said.interval_s or 0) * 1_000_000) if said.stamp == "end" else 0
    return (said.utc_offset_minutes or 0) * MINUTE_US + back_us


def _us(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp()) * 1_000_000 + at.microsecond


def merged(first: Stamping, *others: Stamping) -> Stamping:
    """What the first of them tells counts."""
    every: Sequence[Stamping] = (first, *others)
    return Stamping(
        next((e.utc_offset_minutes for e in every if e.utc_offset_minutes is not None), None),
        next((e.stamp for e in every if e.stamp is not None), None),
        next((e.interval_s for e in every if e.interval_s is not None), None),
        next((e.date_order for e in every if e.date_order is not None), None),
    )


def offset_minutes(text: str) -> int:
    """`+HH:MM` (also `Z`, `UTC`, `+0530`, `-5`) as minutes. Raises `Refused`."""
    word = text.strip().upper().removeprefix("UTC").removeprefix("GMT").strip()
    if word in ("", "Z"):
        return 0
    sign = {"+": 1, "-": -1}.get(word[0])
    digits = word[1:]
    hours, colon, minutes = digits.partition(":")
    if not colon and len(digits) == 4:
        hours, minutes = digits[:2], digits[2:]
    if sign is None or not hours.isdecimal() or not (minutes or "0").isdecimal():
        raise Refused(f"UTC offset {text!r}: expected +HH:MM or -HH:MM")
    total = int(hours) * 60 + int(minutes or 0)
    if total > 14 * 60 or int(minutes or 0) > 59:
        raise Refused(f"UTC offset {text!r} is outside -14:00 to +14:00")
    return sign * total

"""Stamps whose day, month and year may stand in any order: what order a file's own rows prove. Pure; never guesses.

`03.04.22` is two different days. Orders are ruled out by dates that do not exist in them, and by days that do not
follow one another: where rows go on within a day, the next date of the file is the next day. The rest is asked.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial

import numpy as np

from producers.files.numbers import NOT_A_TIME, iso_stamps
from schemas.columnar import Longs

DAY_US = 86_400_000_000
ORDERS = ("dmy", "mdy", "ymd")
Stamps = Callable[[Sequence[str]], tuple[Longs, list[int]]]

_STAMP = re.compile(
    r"\s*(\d{1,4})[-./ ](\d{1,2})[-./ ](\d{1,4})\.?[ T,]+"
    r"(?P<before>\D{1,6} ?)?"
    r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2})(?:[.,](\d{1,6}))?)?\s*(?P<half>\D{0,8})\s*",
    re.ASCII,
)
_AM = ("am", "a", "vorm", "fm", "vm", "ap", "dop", "de", "πμ", "öö", "sa", "上午", "午前", "오전")
_PM = ("pm", "p", "nachm", "em", "nm", "ip", "odp", "du", "μμ", "ös", "ch", "下午", "午後", "오후")

_OFFSET = re.compile(r"(.*[\d:.])\s*(Z|[+-]\d{2}:?\d{2})\s*", re.ASCII)

Parts = tuple[str, str, str]


def without_offset(text: str) -> tuple[str, int | None]:
    """(the stamp, minutes of the offset behind it): programs that save a file again write `+00:00`. None: has none."""
    found = _OFFSET.fullmatch(text)
    if found is None or ":" not in found[1]:
        return text, None
    word = found[2].replace(":", "")
    if word == "Z":
        return found[1], 0
    minutes = int(word[1:3]) * 60 + int(word[3:])
    return found[1], -minutes if word[0] == "-" else minutes


def parts_of(text: str) -> tuple[Parts, int] | None:
    """The three numbers of the date as written, and microseconds since midnight; None for what is no stamp."""
    found = _STAMP.fullmatch(text)
    if found is None:
        return None
    first, second, third, _, hour, minute, whole, fraction, _ = found.groups()
    word = (found["half"] or found["before"] or "").replace(".", "").replace(" ", "").replace("\xa0", "").lower()
    hours = int(hour)
    if word:
        if word not in _AM + _PM or not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if word in _PM else 0)
    seconds = int(whole or 0)
    if hours > 24 or int(minute) > 59 or seconds > 59:
        return None
    us = ((hours * 60 + int(minute)) * 60 + seconds) * 1_000_000 + int((fraction or "0").ljust(6, "0"))
    if us > DAY_US:
        return None  # 24:00 is the day's end
    return (first, second, third), us


def day_of(parts: Parts, order: str) -> date | None:
    """None where there is no such day in this order. Years of two digits are of this century."""
    by = dict(zip(order, parts, strict=True))
    if len(by["y"]) not in (2, 4) or len(by["m"]) > 2 or len(by["d"]) > 2:
        return None
    year = int(by["y"]) + (2000 if len(by["y"]) == 2 else 0)
    try:
        return date(year, int(by["m"]), int(by["d"]))
    except ValueError:
        return None


def proven_order(stamps: Iterable[str]) -> tuple[str, ...]:
    """The orders that a file's stamps, in file order, leave possible; reads no further than it must."""
    left = dict.fromkeys(ORDERS, 0)  # and how often the next date was the next day
    before: tuple[Parts, int] | None = None
    within = False  # whether rows go on within a day
    for text in stamps:
        found = parts_of(text)
        if found is None:
            continue
        parts, us = found
        if before is None or parts != before[0]:
            possible = {order: day for order in left if (day := day_of(parts, order)) is not None}
            if not possible:
                continue  # a broken stamp proves nothing
            if before is not None and within:
                for order, day in possible.items():
                    last = day_of(before[0], order)
                    left[order] += last is not None and (day - last).days == 1
            left = {order: left[order] for order in possible}
            within = False
        else:
            within |= us != before[1]
        before = found
        if len(left) == 1 or sum(map(bool, left.values())) == 1:
            break
    follow = tuple(order for order, count in left.items() if count)
    return follow if len(follow) == 1 else tuple(left)


def stamps_in(order: str, *, zone: int | None = None) -> Stamps:
    """Reads cells in one order; with a `zone`, those that end with an offset, as stamps of that one."""
    return partial(_read, order=order) if zone is None else partial(_read_zoned, order=order, zone=zone)


def _read_zoned(cells: Sequence[str], *, order: str, zone: int) -> tuple[Longs, list[int]]:
    parts = [without_offset(cell) for cell in cells]
    stamps, doubtful = _read([text if offset is not None else "" for text, offset in parts], order=order)
    good = stamps != NOT_A_TIME
    stamps[good] += np.array([(zone - (offset or 0)) * 60_000_000 for _, offset in parts], np.int64)[good]
    return stamps, doubtful


def _read(cells: Sequence[str], *, order: str) -> tuple[Longs, list[int]]:
    if order == "ymd":
        stamps, left = iso_stamps(cells)
    else:
        stamps, left = np.full(len(cells), NOT_A_TIME, np.int64), list(range(len(cells)))
    doubtful = []
    days: dict[Parts, int | None] = {}
    for index in left:
        found = parts_of(cells[index])
        if found is not None:
            parts, us = found
            if parts not in days:
                day = day_of(parts, order)
                days[parts] = None if day is None else (day - date(1970, 1, 1)).days * DAY_US
            midnight = days[parts]
            if midnight is not None:
                stamps[index] = midnight + us
                continue
        doubtful.append(index)
    return stamps, doubtful

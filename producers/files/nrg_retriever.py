"""NRG 9300 and Symphonie, as their Data Retriever writes them. Knows the layout; knows no spool.

Lines of a key and its value, one block a channel that begins with `Channel #` or is headed `[Channel01]`, then
`Date & Time Stamp` (or `Time Stamp`) with the names of the columns, and the rows. A 9300's DR writes commas and lines
that end with CR alone, a Symphonie's SDR tabs.
"""

import re

from producers.files.date_order import DatedTable
from producers.files.dates import parts_of
from producers.files.lines import Readable, cells
from producers.files.logger_file import About, Column, Identity, Stamping
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import Layout, first_is_whole
from producers.files.text_table import Header
from schemas.errors import Refused

HEADING_LINES_MAX = 2_000
_COLUMN = re.compile(r"\s*ch(?:annel)?\s*#?\s*(\d+)\s*[-_ ]?\s*(avg|average|sd|stddev|max|min|gust)?.*", re.IGNORECASE)
_STATISTICS = {"average": "avg", "stddev": "sd"}
_BLOCK = re.compile(r"\[channel\s*0*(\d+)\]")
_SPOKEN = re.compile(r"(average)? ?(speed|direction)( standard deviation)?", re.IGNORECASE)
_UNITS_OF = {"speed": ("mph", "m/s", "km/h", "kmh", "knots", "kts"), "direction": ("degrees", "deg", "°")}
FOOT_M = 0.3048

Fields = dict[str, str]


def is_retriever(text: str) -> bool:
    first = text.split("\n", 1)[0].split("\r", 1)[0].lower()
    return ("dr version" in first and "read by" in first) or first.startswith(("sdr\t", "symphonie data retriever"))


class NrgRetriever(DatedTable):
    """See `LoggerFile`."""

    format = "nrg-9300"
    marks = (b"Read by", b"SDR\t")

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        self._zone: int | None = None
        super().__init__(path, told)
        self.stamping = Stamping(self._zone)
        self.custom = Stamping(stamp="begin")  # as all of NRG's

    def read_header(self, lines: list[str], line: int) -> Header | None:
        delimiter = "\t" if lines[0].count("\t") > lines[0].count(",") else ","
        found = next((at for at, text in enumerate(lines[:HEADING_LINES_MAX]) if _is_heading(text, delimiter)), None)
        if found is None:
            if len(lines) < HEADING_LINES_MAX:
                return None
            raise RefusedAt(self._path.name, line, "no line Date & Time Stamp with the names of the columns")
        names = [name.strip() for name in cells(lines[found : found + 1], delimiter)[0]]
        while names and not names[-1]:
            names.pop()
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise RefusedAt(self._path.name, line + found, f"column {repeated[0]!r} is there twice")
        apart = len(names) > 1 and names[0].lower() == "date" and names[1].lower() == "time"
        stamp_places = (0, 1) if apart else (0,)
        top, channels = _fields(cells(lines[:found], delimiter))
        self._zone = self._offset(top)
        feet = _first(top, "units").lower().startswith("english")
        columns = tuple(_column(name, channels, feet=feet) for name in names[len(stamp_places) :])
        layout = Layout(
            columns,
            tuple(range(len(stamp_places), len(names))),
            len(names),
            stamp_places=stamp_places,
            delimiter=delimiter,
            exported=first_is_whole(lines[found + 1 :], delimiter, len(names)),
        )
        model, serial = (_first(top, word) or _first(top, f"logger {word}") for word in ("model", "serial"))
        return Header(Identity("NRG Systems", model, serial, _first(top, "site")), layout, found + 1)

    def _offset(self, top: Fields) -> int | None:
        said = _first(top, "time zone") or _first(top, "time offset")
        if said == "0":
            return None  # what stands there until somebody sets it: a mast in Dakota has it too
        try:
            return offset_minutes(said if said[:1] in "+-UGZ" else f"+{said}") if said else None
        except Refused:
            return None  # it is asked then


def _is_heading(text: str, delimiter: str) -> bool:
    row = cells([text], delimiter)[0]
    first = row[0].strip().lower() if row else ""
    return (
        len(row) > 1
        and first.startswith(("date & time", "date/time", "date time", "timestamp", "time stamp", "date"))
        and (parts_of(first) is None and not row[1].strip().startswith(("1", "2")))
    )


def _fields(rows: list[list[str]]) -> tuple[Fields, dict[str, Fields]]:
    top: Fields = {}
    channels: dict[str, Fields] = {}
    section = top
    for row in rows:
        key = row[0].strip().rstrip(":").lower() if row else ""
        value = row[1].strip() if len(row) > 1 else ""
        if key in ("channel #", "channel", "channel number"):
            section = channels.setdefault(value, {})
        elif block := _BLOCK.fullmatch(key):
            section = channels.setdefault(block[1], {})
        elif key:
            section.setdefault(key, value)
    return top, channels


def _first(top: Fields, word: str) -> str:
    return next((value for key, value in top.items() if key.startswith(word) and value), "")


def _column(name: str, channels: dict[str, Fields], *, feet: bool) -> Column:
    found = _COLUMN.fullmatch(name)
    spoken = None if found else _SPOKEN.fullmatch(name.strip())
    block: Fields = {}
    statistic = ""
    if found:
        block, statistic = channels.get(found[1], {}), (found[2] or "").lower()
    elif spoken:
        block = _only_one(channels, spoken[2].lower())
        statistic = "sd" if spoken[3] else (spoken[1] or "").lower()
    serial = _first(block, "serial") or _first(block, "s/n")
    about = About(
        "" if serial.lower() == "none" else serial,
        _first(block, "description"),
        _height_m(_first(block, "height"), feet=feet),
        None,
        _number(_first(block, "scale")),
        _number(_first(block, "offset")),
    )
    return Column(name, _first(block, "units"), _STATISTICS.get(statistic, statistic), about=about)


def _only_one(channels: dict[str, Fields], quantity: str) -> Fields:
    """The block of the one channel with a unit of that quantity; none where several could be meant."""
    blocks = [each for each in channels.values() if _first(each, "units").lower() in _UNITS_OF[quantity]]
    return blocks[0] if len(blocks) == 1 else {}


def _height_m(text: str, *, feet: bool) -> float | None:
    number = _number(text)
    if number is None:
        return None
    unit = text.lower().lstrip("+-.0123456789 ")
    return round(number * FOOT_M, 2) if unit.startswith(("ft", "feet", "'")) or (feet and not unit) else number


def _number(text: str) -> float | None:
    found = re.match(r"[-+]?\d+(?:\.\d+)?", text)
    return float(found[0]) if found else None

"""Onset's text exports: a title, one line of headings, rows. Knows the layout, not the language it was exported in.

The zone stands in the heading of the time (`Date Time, GMT+02:00`, `Datum Zeit, GMT+02:00`), unit and serial numbers in
that of each channel: `Temp., °C (LGR S/N: 21309858, SEN S/N: 21309858, LBL: air)`. Headings are translated, the words
GMT, LGR S/N, SEN S/N and LBL are not. Channels without a unit are events (Host Connected, Stopped, End Of File).
Earlier versions write no zone and `Temp (°C)  #9724974`; what of it is left out of the export is left out here too.
HOBOconnect (MX loggers) writes `Date-Time (EST)` and `Ch: 1 - Temperature   (°C)`: a zone by name, which is asked for.
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from producers.files.date_order import DatedTable
from producers.files.lines import Readable, cells
from producers.files.logger_file import About, Column, Identity, Kind, Stamping
from producers.files.numbers import MISSING, numbers
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import ROWS_SNIFFED, Layout, decimal_of, first_is_whole
from producers.files.text_table import Header
from schemas.errors import Refused

HEADING_LINES_MAX = 5  # a title, perhaps blank lines, the headings
SILENT = frozenset({"-888.88", "-888.888", "-888.9", "-889"})
"""What is logged where a smart sensor does not answer (Onset's tech note on -888.88), also rounded as an export may."""
_ZONE = re.compile(r"(.+?),?\s*\(?(?:GMT|UTC)\s*([+-]\d{1,2}:?\d{2})\)?\s*", re.IGNORECASE)
_CONNECT = re.compile(r"Date-Time\s*\((.*)\)", re.IGNORECASE)
_OF_ZERO = ("utc", "gmt")
_SERIALS = re.compile(r"\s*\(((?:(?:LGR S/N|SEN S/N|LBL):.*)?)\)\s*$")
_OLD_SERIAL = re.compile(r"(.*?)\s*\(([^()]+)\)\s*(?:#\s*(\d+))?\s*$")
_STATISTIC = re.compile(r" : (Max|Min|Avg|Std Dev)$", re.IGNORECASE)
_NUMBERED = re.compile(r"\(.+\)\s*#\s*\d+\s*$")
_TITLE = re.compile(r'\s*"?([^":]{3,40}?)\s*[::]\s*(.*?)"?\s*$')
_TITLE_WORDS = ("plot title", "plot-titel", "titre", "título", "titolo", "plottitel", "диаграмма", "グラフ", "图")
_DATE_WORDS = ("date time", "datum zeit", "date heure", "fecha tiempo", "fecha hora", "data hora", "data ora")
_TIME_WORDS = re.compile(r"(time|zeit|uhrzeit|heure|hora|ora|tiempo|tijd|tid|时间|時間|時刻)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heading:
    """Where the line of headings is, and how it is written."""

    at: int  # index among the lines
    delimiter: str
    cells: list[str]
    stamp_at: tuple[int, ...]
    zone: str | None
    zone_name: str = ""  # of HOBOconnect


def heading_of(lines: list[str]) -> Heading | None:
    """Of the first lines of a HOBOware file; None where it is none."""
    for at, line in enumerate(lines[:HEADING_LINES_MAX]):
        for delimiter in (",", ";", "\t"):
            row = [cell.strip() for cell in cells([line], delimiter)[0]]
            found = _stamp_cells(row)
            if found is not None and len(row) > max(found[0]) + 1:
                connect = _CONNECT.fullmatch(row[max(found[0])])
                titled = at > 0 and _is_title(lines[0])
                if connect:
                    return Heading(at, delimiter, row, *found, connect[1].strip())
                if titled or found[1] is not None or any("S/N:" in cell or _NUMBERED.search(cell) for cell in row):
                    return Heading(at, delimiter, row, *found)
    return None


def is_hobo(text: str) -> bool:
    lines = [line.rstrip("\r") for line in text.split("\n")[: HEADING_LINES_MAX + 1]]
    first = lines[0].lstrip('\ufeff" ').lower() if lines else ""
    return first.startswith(("plot title", "plot-titel")) or heading_of(lines) is not None


def _is_title(line: str) -> bool:
    return line.strip().lstrip('\ufeff" ').lower().startswith(_TITLE_WORDS)


def _stamp_cells(row: list[str]) -> tuple[tuple[int, ...], str | None] | None:
    """(cells of the stamp, its zone)."""
    for at, cell in enumerate(row[:3]):
        if connect := _CONNECT.fullmatch(cell):
            return (at,), _plain_zone(connect[1])
        zoned = _ZONE.fullmatch(cell)
        name = (zoned[1] if zoned else cell).strip().rstrip(",").lower()
        if zoned or name.startswith(_DATE_WORDS):
            zone = zoned[2] if zoned else None
            # Date and time may be columns of their own; then the zone stands with the time.
            dated = at > 0 and any(letter.isalpha() for letter in row[at - 1])  # not the "#" of row numbers
            apart = zoned is not None and dated and " " not in name and _TIME_WORDS.search(name) is not None
            return ((at - 1, at) if apart else (at,)), zone
    return None


def _plain_zone(name: str) -> str | None:
    """None for names: EST is two zones, and EST/EDT and Pacific Standard Time change twice a year."""
    said = re.fullmatch(r"\s*(?:GMT|UTC)?\s*([+-]\d{1,2}:?\d{2})\s*", name, re.IGNORECASE)
    return said[1] if said else "+00:00" if name.strip().lower() in _OF_ZERO else None


class Hoboware(DatedTable):
    """See `LoggerFile`."""

    format = "hoboware"

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        self._zone: int | None = None
        self._names: tuple[int, str] | None = None
        super().__init__(path, told)
        self.stamping = Stamping(self._zone)
        self.custom = Stamping(stamp="begin")  # a logger of samples: each is of its own moment
        if self._names is not None:
            line, names = self._names
            what = f"times are of {names}, an hour apart in summer and winter, and one offset is right for one of them"
            self.tally.trouble(line, f"{what}: export the file with a fixed offset if it holds both")

    def read_header(self, lines: list[str], line: int) -> Header | None:
        heading = heading_of(lines)
        if heading is None:
            if len(lines) < HEADING_LINES_MAX:
                return None
            raise RefusedAt(
                self._path.name, line + 1, "no heading of HOBOware with the time, such as Date Time, GMT+00:00"
            )
        if heading.zone is not None:
            try:
                self._zone = offset_minutes(heading.zone)
            except Refused as error:
                raise RefusedAt(self._path.name, line + heading.at, str(error)) from None
        if "/" in heading.zone_name and self._names is None:
            self._names = line + heading.at, heading.zone_name
        below = lines[heading.at + 1 :][:ROWS_SNIFFED]
        rows = [row for row in cells(below, heading.delimiter) if len(row) > max(heading.stamp_at) + 1]
        first_value = max(heading.stamp_at) + 1
        decimal = decimal_of(rows, first_value, heading.delimiter)
        columns, places = [], []
        for at, text in enumerate(heading.cells):
            if at in heading.stamp_at:
                continue
            column = Column(text or "#", kind=Kind.RECORD) if at < first_value else _channel(text)
            if not column.name:
                continue  # a heading that ends with a delimiter
            if column.kind is Kind.VALUE and not column.unit and not _has_numbers(rows, at, decimal):
                column = replace(column, kind=Kind.TEXT)
            columns.append(column)
            places.append(at)
        named = _apart(columns)
        title = _TITLE.fullmatch(lines[0].lstrip("\ufeff")) if heading.at else None
        serial = next((_serial(text, "LGR") for text in heading.cells if "S/N:" in text), "") or next(
            (column.about.serial for column in columns if column.about.serial), ""
        )
        values_at = [at for column, at in zip(named, places, strict=True) if column.kind is Kind.VALUE]
        events_at = [at for column, at in zip(named, places, strict=True) if column.kind is Kind.TEXT]

        def is_event(row: list[str]) -> bool:
            return not any(row[at].strip() for at in values_at) and any(row[at].strip() for at in events_at)

        width = _width(rows, len(heading.cells))
        layout = Layout(
            tuple(named),
            tuple(places),
            width,
            stamp_places=heading.stamp_at,
            delimiter=heading.delimiter,
            decimal=decimal,
            missing=MISSING | SILENT,
            cells_min=max(values_at, default=first_value) + 2,  # events may be left out, never what is measured
            exported=first_is_whole(below, heading.delimiter, width),
            skips=is_event if events_at else None,
        )
        station = title[2].strip().rstrip(heading.delimiter) if title else ""  # a spreadsheet pads the title, too
        if title and title[1].strip().lower() == "serial number":
            serial, station = serial or station.rstrip(" -"), ""
        identity = Identity("Onset", "", serial, station)
        return Header(identity, layout, heading.at + 1)


def _channel(text: str) -> Column:
    found = _SERIALS.search(text)
    head = text[: found.start()] if found else text
    about = About(_serial(text, "SEN") or _serial(text, "LGR"), _serial(text, "LBL"))
    name, comma, unit = head.rpartition(",")
    if comma:
        return Column(name.strip(), _unit(unit), about=about)
    old = _OLD_SERIAL.fullmatch(head)  # `Temp (°C)  #9724974` of earlier versions
    if old and old[2]:
        kind = _STATISTIC.search(old[1].rstrip())
        statistic = kind[1].lower().replace("std dev", "sd") if kind else ""
        return Column(old[1].strip(), _unit(old[2]), statistic, about=About(old[3] or about.serial, about.description))
    return Column(head.strip(), about=about)


def _unit(text: str) -> str:
    """`(*F)` and `*F` stand for °F where an export was told to do without such letters."""
    found = text.strip()
    if found.startswith("(") and found.endswith(")"):
        found = found[1:-1].strip()
    return f"°{found[1:]}" if found in ("*C", "*F") else found


def _width(rows: list[list[str]], headed: int) -> int:
    """Of a row: details of the launch may stand in a column that has no heading."""
    beyond = [row for row in rows if len(row) > headed]
    said = [cell for row in beyond for cell in row[headed:] if cell.strip()]
    if not said or len(beyond) < len(rows) // 2 or not np.isnan(numbers(said)[0]).all():
        return headed
    return max(map(len, beyond))


def _serial(text: str, what: str) -> str:
    found = re.search(rf"\b{what}(?: S/N)?:\s*([^,()]*)", text)
    said = found[1].strip() if found else ""
    while said.endswith("_duplicate"):  # as HOBOware calls a series that was opened from a project again
        said = said.removesuffix("_duplicate")
    return "" if said == "null" else said


def _apart(columns: list[Column]) -> list[Column]:
    """Channels of one name told apart by label, else by serial number, else by number."""
    names = [column.name for column in columns]
    out: list[Column] = []
    for column in columns:
        name = column.name
        if names.count(name) > 1:
            same = [each.about for each in columns if each.name == name]
            for word in (column.about.description, column.about.serial):
                told = [each for each in same if word in (each.description, each.serial)]
                if word and word != column.unit and len(told) == 1:
                    name = f"{name} {word}"
                    break
        taken = {each.name for each in out}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name} {number}", number + 1
        out.append(replace(column, name=unique))
    return out


def _has_numbers(rows: list[list[str]], at: int, decimal: str) -> bool:
    values, _ = numbers([row[at].replace(decimal, ".") for row in rows if len(row) > at])
    return bool(np.isfinite(values).any())

"""NRG text: SymphoniePRO Desktop export, NRG Cloud export, LOGR files. Knows their header; knows no spool.

Hundreds of lines of `Key:<TAB>value` in blocks, one for each channel, then a line `Data`, the column names, the rows.
Stamps of the exports are local, with `Time Zone:` in the header; a LOGR writes UTC with a Z whatever its zone says.
A spreadsheet that saved one again leaves other delimiters, padding and dates.
"""

import re
from collections.abc import Sequence

from producers.files.date_order import DatedTable
from producers.files.lines import Readable, cells
from producers.files.logger_file import About, Column, Identity, Kind, Stamping
from producers.files.numbers import iso_stamps
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import ROWS_SNIFFED, Layout, decimal_of
from producers.files.text_table import Header
from schemas.columnar import Longs
from schemas.errors import Refused

FORMATS = {
    "NRG Export Service": "nrg-cloud",
    "SymphoniePRO Desktop": "nrg-symphoniepro",
    "NRG Systems Data Logger": "nrg-logr",
}
STAMP_NAMES = ("Timestamp", "Stats_Timestamp", "Date/Time")
_PADDING = ' \t\r",;'
_FIRST_NAME = re.compile(r"""["\s]*[\w/]+"?([\t,;])""")
_CHANNEL = re.compile(r"Ch(\d+)_(.*)", re.ASCII)
_STATISTICS = ("Gust_Dir", "GustDir", "NotUsed", "Samples", "Total", "Gust", "Avg", "Min", "Max", "Sum", "SD")

Fields = dict[str, str]


def is_nrg(text: str) -> bool:
    return text.startswith(tuple(FORMATS))


class Nrg(DatedTable):
    """See `LoggerFile`."""

    marks = tuple(word.encode() for word in FORMATS)

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        self.format = "nrg"
        self._zone: int | None = None
        self._utc = False
        self._begins = True
        self._interval_s: float | None = None
        super().__init__(path, told)
        self.stamping = Stamping(0 if self._utc else self._zone, interval_s=self._interval_s)
        # Not in any file: NRG's loggers stamp the beginning of an interval. LOGR files with samples beside their means
        # prove it from firmware 1.09 on; those of 1.02 reach from 07:01 to 08:00, so that it is asked.
        self.custom = Stamping(stamp="begin" if self._begins else None)

    def read_header(self, lines: list[str], line: int) -> Header | None:
        at = next((at for at, text in enumerate(lines) if text.strip(_PADDING) == "Data"), None)
        if at is None:
            return None
        found = _FIRST_NAME.match("".join(lines[at + 1 : at + 2]))
        delimiter = found[1] if found else "\t"  # tabs, unless a spreadsheet saved the file again
        top, channels = _fields(["\t".join(row) for row in cells(lines[:at], delimiter)])
        if top.get("File Content", "") == "Logs":
            raise Refused(f"{self._path.name} is the event log of an NRG logger: send the file with measurements")
        if len(lines) < at + 2:
            return None
        names = cells(lines[at + 1 : at + 2], delimiter)[0] or [""]
        while len(names) > 1 and not names[-1].strip():
            names.pop()
        if names[0].strip() not in STAMP_NAMES:
            raise RefusedAt(
                self._path.name, line + at + 1, f"the first column must be Timestamp, got {names[0].strip()[:40]!r}"
            )
        names = [name.strip() for name in names]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise RefusedAt(self._path.name, line + at + 1, f"column {repeated[0]!r} is there twice")
        self.format = next(form for word, form in FORMATS.items() if lines[0].lstrip('\ufeff"').startswith(word))
        self._zone = self._offset(top)
        self._begins = "FW Version" not in top or "Created FW Version" in top
        if top.get("File Content") == "Statistics":
            minutes = re.fullmatch(r"[1-9]\d{0,3}", top.get("Statistical Interval (min)", ""))
            self._interval_s = float(minutes[0]) * 60 if minutes else None
        below = [row for row in cells(lines[at + 2 :][:ROWS_SNIFFED], delimiter) if row and row[0].strip()]
        self._utc = bool(below) and below[0][0].strip().endswith("Z")
        columns = tuple(_column(name, channels) for name in names[1:])
        layout = Layout(
            columns,
            tuple(range(1, len(names))),
            len(names),
            delimiter=delimiter,
            decimal=decimal_of(below, 1, delimiter),
            stamps=utc_stamps if self._utc else iso_stamps,
            zoned=self._utc,
        )
        return Header(_identity(top, self.format), layout, at + 2)

    def _example(self) -> tuple[str, int | None]:
        return ("", None) if self._utc else super()._example()

    def _offset(self, top: Fields) -> int | None:
        """None for what is no plain offset, such as a name with summer time: it is asked then."""
        said = top.get("Time Zone", "").strip()
        try:
            hours = float(said)
        except ValueError:
            hours = float("nan")
        if abs(hours) <= 14 and (hours * 60).is_integer():
            return round(hours * 60)
        try:
            return offset_minutes(said) if said else None
        except Refused:
            return None


def utc_stamps(cells: Sequence[str]) -> tuple[Longs, list[int]]:
    """`YYYY-MM-DDTHH:MM:SS[.f]Z`."""
    stamps, doubtful = iso_stamps(
        [cell.strip().removesuffix("Z") if cell.strip().endswith("Z") else "" for cell in cells]
    )
    return stamps, doubtful


def _fields(lines: list[str]) -> tuple[Fields, dict[str, list[Fields]]]:
    """(fields outside of channels, blocks of each channel in file order)."""
    top: Fields = {}
    channels: dict[str, list[Fields]] = {}
    section: Fields = top
    for text in lines:
        key, colon, value = text.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            section = top
            continue
        if key in ("Channel", "Export Channel"):
            if key == "Channel" or "Channel" not in section:
                section = {}
            channels.setdefault(value, []).append(section)
        elif section is top and key in ("Model", "Serial Number", "Firmware", "Date") and key in top:
            continue  # of the iPack, which comes below the logger
        section[key] = value
    return top, channels


def _identity(top: Fields, form: str) -> Identity:
    model = top.get("Model") or top.get("Model Number") or ("LOGR" if form == "nrg-logr" else "SymphoniePRO")
    signature = top.get("Configuration Version") or ""
    station = top.get("Site Description") or top.get("Site") or top.get("Site Number") or ""
    table = top.get("File Content") or top.get("Data Type") or ""
    return Identity("NRG Systems", model, top.get("Serial Number", ""), station, "", signature, table)


def _column(name: str, channels: dict[str, list[Fields]]) -> Column:
    found = _CHANNEL.fullmatch(name)
    if found is None:
        return Column(name, *_unit_last(name))
    blocks = channels.get(found[1], [])
    block = blocks[-1] if blocks else {}  # the newest comes last
    rest, unit = found[2], block.get("Units", "")
    if unit and rest.endswith(f"_{unit}"):
        rest = rest.removesuffix(f"_{unit}")
    elif rest.endswith("_"):
        rest = rest.removesuffix("_")
    statistic = next((word for word in _STATISTICS if rest == word or rest.endswith(f"_{word}")), "")
    if not statistic:  # a unit that its block does not have
        statistic = next((word for word in _STATISTICS if f"_{word}_" in f"_{rest}_"), "")
        unit = f"_{rest}".rpartition(f"_{statistic}_")[2] if statistic else unit
    kind = Kind.UNUSED if statistic == "NotUsed" else Kind.VALUE
    return Column(name, unit, statistic, kind, _about(block))


def _unit_last(name: str) -> tuple[str, str]:
    """(unit, statistic) of a diagnostic column such as `12_4V_mA_Avg`."""
    head, _, statistic = name.rpartition("_")
    return (head.rpartition("_")[2], statistic) if statistic in _STATISTICS else ("", "")


def _about(block: Fields) -> About:
    return About(
        block.get("Serial Number", ""),
        block.get("Description", ""),
        _number(block, "Height"),
        _number(block, "Bearing"),
        _number(block, "Scale Factor"),
        _number(block, "Offset"),
        block.get("Effective Date", ""),
    )


def _number(block: Fields, key: str) -> float | None:
    try:
        return float(block[key])
    except (KeyError, ValueError):
        return None

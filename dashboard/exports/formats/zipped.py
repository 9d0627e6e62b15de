"""A zip with one text for each kind of sensor, and the log of flags. The same bytes for the same data."""

import io
import zipfile
from dataclasses import replace
from typing import BinaryIO, cast

from dashboard.exports.choice import Choice
from dashboard.exports.formats import Source, windographer
from dashboard.exports.labels import plain
from dashboard.exports.outputs import Outputs
from dashboard.exports.query import Tally

LEVEL = 6
OTHER = "other"
FLAGS = "flags.txt"


def write(choice: Choice, source: Source, out: Outputs, tally: Tally) -> None:
    """The file; each text is read from the database on its own, so that nothing waits in memory."""
    rows = 0
    names = [FLAGS]
    with zipfile.ZipFile(out.main(), "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for kind in dict.fromkeys(column.quantity or OTHER for column in choice.columns):
            part = replace(choice, columns=tuple(c for c in choice.columns if (c.quantity or OTHER) == kind))
            names.append(_name(kind, names))
            with archive.open(_entry(names[-1]), "w", force_zip64=True) as raw:
                before = tally.rows
                file = io.BufferedWriter(cast(io.RawIOBase, raw), 2**20)
                windographer.text(part, source, cast(BinaryIO, file), tally, is_strict=False)
                file.flush()
                file.detach()
                rows = max(rows, tally.rows - before)
        if choice.request.flag_log and choice.flagged:
            with archive.open(_entry(FLAGS), "w") as raw:
                windographer.flag_log(choice, cast(BinaryIO, raw))
    tally.rows = rows


def _name(kind: str, taken: list[str]) -> str:
    """One that no other file of the archive has, also where letters' case says nothing."""
    name = plain(kind).replace("/", "_").replace("\\", "_")
    while f"{name}.txt".lower() in map(str.lower, taken):
        name += "_"
    return f"{name}.txt"


def _entry(name: str) -> zipfile.ZipInfo:
    """Dated at the beginning of zip's time: the same data make the same file."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry

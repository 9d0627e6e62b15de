"""In which form a series is answered: by `format=`, else by the Accept header. Knows media types and pyarrow.

Arrow and Parquet are made here from the columns' bytes; NDJSON and CSV are made by the database, which spares this
process the work of a hundred thousand little objects.
"""

import io
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import Query

from dashboard.web.problems import Problem


class Format(StrEnum):
    """Of a series."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv",
    Format.ARROW: "application/vnd.apache.arrow.stream",
    Format.PARQUET: "application/vnd.apache.parquet",
}
Asked = Annotated[
    Format | None, Query(alias="format", description="Before the Accept header: " + ", ".join(Format) + ".")
]


def chosen(asked: Format | None, accept: str | None) -> Format:
    """`asked`, else the first of the Accept header's types that we have, best quality first. Raises `Problem` 406."""
    if asked is not None:
        return asked
    ranked = []
    for place, part in enumerate((accept or "*/*").split(",")):
        media, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if weight > 0:
            ranked.append((-weight, place, media))
    for _, _, media in sorted(ranked):
        for form, name in MEDIA_TYPES.items():
            if media in (name, "*/*", name.partition("/")[0] + "/*"):
                return form
    raise Problem(406, f"none of the accepted types is there; there are {', '.join(MEDIA_TYPES.values())}")


def batch(schema: pa.Schema, columns: dict[str, npt.NDArray[Any]], *, place: int, sensors: pa.Array) -> pa.RecordBatch:
    """Rows of the sensor at `place` of `sensors`. NaN is written as null."""
    rows = len(columns["time"])
    sensor = pa.DictionaryArray.from_arrays(pa.array(np.full(rows, place, "<i4")), sensors)
    arrays = [sensor]
    for field in schema.names[1:]:
        values = columns[field]
        is_missing = np.isnan(values) if values.dtype.kind == "f" else None
        arrays.append(pa.array(values, type=schema.field(field).type, mask=is_missing))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Drain(io.RawIOBase):
    """A file that is written from its beginning to its end and handed over piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, piece: Any) -> int:
        copied = bytes(piece)
        self._pieces.append(copied)
        self._position += len(copied)
        return len(copied)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class Writer:
    """Arrow IPC stream or Parquet, batch by batch, in the memory of one batch."""

    def __init__(self, form: Format, schema: pa.Schema) -> None:
        self._drain = _Drain()
        self._writer: Any = (
            pq.ParquetWriter(self._drain, schema, compression="zstd")
            if form is Format.PARQUET
            else pa.ipc.new_stream(self._drain, schema)
        )

    def write(self, rows: pa.RecordBatch) -> bytes:
        """What is to be sent now."""
        self._writer.write_batch(rows)
        return self._drain.take()

    def close(self) -> bytes:
        """The end of the file."""
        self._writer.close()
        return self._drain.take()

"""Parquet: a column for each channel with its facts in the schema, time with its zone, a row group a slice."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dashboard.exports.arrow import doubles, times
from dashboard.exports.choice import Choice
from dashboard.exports.columns import Column
from dashboard.exports.formats import PROGRAM, Source
from dashboard.exports.outputs import Outputs
from dashboard.exports.query import Tally
from dashboard.exports.request import Interval
from dashboard.exports.text import stamp_shift_us

COMPRESSION = "zstd"


def write(choice: Choice, source: Source, out: Outputs, tally: Tally) -> None:
    """The file. Missing values are null."""
    described = schema(choice)
    file = out.main()
    with pq.ParquetWriter(file, described, compression=COMPRESSION) as writer:
        for block in source(choice, tally):
            if not len(block.times_us):
                continue
            stamps = times(block.times_us + stamp_shift_us(choice), described.field("time").type)
            columns = [doubles(values) for values in block.values]
            writer.write_table(pa.Table.from_arrays([stamps, *columns], schema=described))
            tally.note(block.times_us)
        writer.add_key_value_metadata({"left_out": json.dumps(tally.left_out, sort_keys=True)})


def schema(choice: Choice) -> pa.Schema:
    """Fields with unit, height, quantity and the like as metadata; the choice itself as the schema's."""
    clock = choice.clock
    zone = (
        clock.name
        if clock.offset_minutes is None
        else clock.told.removeprefix("UTC")
        if clock.offset_minutes
        else "UTC"
    )
    time = pa.field("time", pa.timestamp("us", tz=zone), nullable=False, metadata={"stamp": choice.request.stamp})
    fields = [pa.field(column.label, pa.float64(), metadata=_facts(column)) for column in choice.columns]
    request = choice.request
    about: dict[str, Any] = {
        "program": PROGRAM,
        "stations": [{name: getattr(each, name) for name in each.__slots__} for each in choice.stations],
        "interval": str(request.interval),
        "interval_s": choice.step_s,
        "values": request.values,
        "quality": [flag.name.lower() for flag in request.quality],
        "flags_in": list(choice.included),
        "flags_out": list(choice.excluded),
    }
    if request.interval is Interval.AS_LOGGED:
        about.pop("interval")
    return pa.schema([time, *fields], metadata={"telltale": json.dumps(about, sort_keys=True)})


def _facts(column: Column) -> dict[str, str]:
    named = (
        "device_id",
        "channel",
        "point",
        "quantity",
        "statistic",
        "figure",
        "unit",
        "height_m",
        "boom_orientation_deg",
    )
    found = {name: getattr(column, name) for name in named}
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in found.items()
        if value is not None
    }

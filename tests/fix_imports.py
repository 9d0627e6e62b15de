"""A configured mast and its logger files, and what of them is in `readings.raw`."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infra.whole_topic import read_to_end
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.devices import Device, Logger, Sensor, Station
from schemas.frames import RawFrame
from schemas.records import ImportStatus
from schemas.topics import IMPORTS, READINGS_RAW

CHANNELS = ("Spd80mN", "Dir78mS")
STEP_S = 600
START = np.datetime64("2020-01-01T00:00:00", "s")
HEADER = "\r\n".join(
    [
        '"TOA5","mast","CR1000","E7000","CR1000.Std.22","CPU:mast.CR1","12345","ten"',
        '"TIMESTAMP","RECORD","Spd80mN","Dir78mS"',
        '"TS","RN","m/s","Deg"',
        '"","","Avg","Avg"',
        "",
    ]
)


def mast(device_id: str = "mast-7", **changes: Any) -> Device:
    """Its logger stamps the end of ten minutes in UTC."""
    sensors = tuple(
        Sensor(channel=name, point=name, quantity="other", unit="", statistic="avg", windows_s=()) for name in CHANNELS
    )
    facts = {
        "device_id": device_id,
        "name": device_id,
        "station": Station(station_id="hill", name="Hill"),
        "loggers": (Logger(serial="E7000", utc_offset_minutes=0, stamp="end", interval_s=STEP_S),),
        "interval_s": float(STEP_S),
        "sensors": sensors,
        "configured_at": datetime.now(UTC),
        "configured_by": "test",
    }
    return Device.model_validate({**facts, **changes})


def configure(kafka: str, *devices: Device) -> None:
    publish(kafka, devices)


def lines(first: int, count: int) -> str:
    """Rows of an endless series: each value follows from its place."""
    stamps = START + np.arange(first, first + count) * np.timedelta64(STEP_S, "s")
    texts = [str(stamp).replace("T", " ") for stamp in stamps]
    return "".join(f'"{text}",{n},{n},{n % 360}\r\n' for n, text in enumerate(texts, first))


def cells_of(first: int, count: int) -> set[tuple[int, str, float]]:
    """What those rows are in the database: beginning of the interval in UTC, channel, value."""
    begin = int(START.astype("datetime64[us]").astype(np.int64)) - STEP_S * 1_000_000
    return {
        (begin + n * STEP_S * 1_000_000, channel, float(value))
        for n in range(first, first + count)
        for channel, value in zip(CHANNELS, (n, n % 360), strict=True)
    }


def records(kafka: str, topic: str) -> list[Any]:
    """Every committed record of a topic."""
    return list(read_to_end(kafka, topic, group="look"))


def arrived(kafka: str) -> Counter[tuple[int, str, float]]:
    """Every reading in `readings.raw`, how often it is there; a frame that was sent again is one."""
    codec = Codec()
    frames = {
        (frame.spool_id, frame.device_id, frame.sequence): frame
        for message in records(kafka, READINGS_RAW)
        for frame in [codec.decode_frame(RawFrame, message.value())]
    }
    return Counter(
        (int(at), channel, float(value))
        for frame in frames.values()
        for at, row in zip(frame.times, frame.values, strict=True)
        for channel, value in zip(frame.channels, row, strict=True)
    )


def every_status(kafka: str) -> list[ImportStatus]:
    """The last word on every file."""
    codec = Codec()
    found: dict[bytes, ImportStatus] = {}
    for message in records(kafka, IMPORTS):
        if message.value() is None:
            found.pop(message.key(), None)
        else:
            found[message.key()] = codec.decode(ImportStatus, message.value())
    return list(found.values())


def statuses(kafka: str) -> dict[str, ImportStatus]:
    """The same by name, where each file has one of its own."""
    return {status.name: status for status in every_status(kafka)}


def write(path: Path, first: int, count: int) -> Path:
    """A whole file."""
    path.write_bytes((HEADER + lines(first, count)).encode())
    return path

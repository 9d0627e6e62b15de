"""The stream stage as tests meet it: devices and frames in, records out. Everything over the real wire."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Message, Producer

from infra.client import reader
from infra.whole_topic import partition_to_end, partitions_of
from schemas.alarms import AlarmEvent, read_alarm
from schemas.codec import Codec
from schemas.devices import Calibration, Device, Sensor, Station
from schemas.errors import Unavailable
from schemas.frames import CleanFrame, RawFrame, WindowFrame
from schemas.keys import PARTITIONER
from schemas.limits import GrossRange, Limits
from schemas.records import Heartbeat, Rejected
from schemas.topics import ALARMS, DEVICES, HEARTBEATS, READINGS_CLEAN, READINGS_RAW, READINGS_REJECTED, WINDOWS

if TYPE_CHECKING:
    from streams.agents.ownership import Ownership

SLOPES = Calibration(logger_slope=0.05, logger_offset=0.2, slope=0.046, offset=0.243)
START_US = 1_700_000_400_000_000  # on a 10-minute boundary
US = 1_000_000


def make_device(device_id: str, channels: int = 3, **changes: Any) -> Device:
    """A device of one reading per second and channel, whose logged values are far from the calibrated ones."""
    sensors = tuple(
        Sensor(
            channel=f"c{number}",
            point=f"c{number}",
            quantity="wind_speed",
            unit="m/s",
            statistic="avg",
            calibrations=(SLOPES,),
            limits=Limits(gross_range=GrossRange(fail=(0, 75), suspect=(0, 50))),
        )
        for number in range(channels)
    )
    facts = {
        "device_id": device_id,
        "name": device_id,
        "station": Station(station_id="mast", name="Mast"),
        "interval_s": 1.0,
        "sensors": sensors,
        "configured_at": datetime.now(UTC),
        "configured_by": "test",
    }
    return Device.model_validate({**facts, **changes})


def make_frame(
    device_id: str, sequence: int, *, first: int, rows: int, channels: int = 3, spool: str = "sp"
) -> RawFrame:
    """Rows `first` to `first + rows` of a series that anybody can compute again from device, row and channel."""
    number = np.arange(first, first + rows, dtype=np.int64)
    return RawFrame(
        device_id=device_id,
        spool_id=spool,
        sequence=sequence,
        times=START_US + number * US,
        channels=tuple(f"c{c}" for c in range(channels)),
        values=logged(number, channels),
    )


def logged(number: np.ndarray[Any, np.dtype[np.int64]], channels: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return 10.0 + np.sin(number)[:, None] + 0.01 * number[:, None] + np.arange(channels)[None, :]


def calibrated(value: float) -> float:
    """By the formula, one number at a time."""
    x = (value - 0.2) / 0.05
    return 0.046 * x + 0.243


@dataclass
class Consumed:
    """A record of `readings.raw`, as a worker's consumer gives it."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int  # ms
    topic: str = READINGS_RAW
    signature: bytes | None = None
    oversized: bool = False


def consumed(offset: int, frame: RawFrame, *, at_s: int) -> Consumed:
    """The frame at an offset, taken by the broker `at_s` after START_US."""
    return Consumed(offset, frame.device_id.encode(), Codec().encode(frame), START_US // 1000 + at_s * 1000)


@dataclass
class Wire:
    """A broker's topics, written and read as devices and consumers do."""

    kafka: str
    codec: Codec = field(default_factory=Codec)

    def __post_init__(self) -> None:
        self._refused: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": self.kafka,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,  # the broker may end before it
            }
        )

    def configure(self, *devices: Device) -> None:
        for device in devices:
            self._produce(DEVICES, key=device.device_id.encode(), value=self.codec.encode(device))
        self.flush()

    def send_soon(self, frame: RawFrame) -> None:
        """Without waiting for the broker; `flush` does."""
        self._produce(READINGS_RAW, key=frame.device_id.encode(), value=self.codec.encode(frame))
        self._producer.poll(0)

    def flush(self) -> None:
        """All is in its log."""
        assert (self._producer.flush(60), self._refused) == (0, [])

    def _produce(self, topic: str, **record: Any) -> None:
        self._producer.produce(
            topic, **record, on_delivery=lambda error, _: self._refused.append(str(error)) if error else None
        )

    def send(self, *frames: RawFrame | bytes, key: str | None = None) -> None:
        for frame in frames:
            value = frame if isinstance(frame, bytes) else self.codec.encode(frame)
            device_id = key or (frame.device_id if isinstance(frame, RawFrame) else "nobody")
            self._produce(READINGS_RAW, key=device_id.encode(), value=value)
        self.flush()

    def put(self, partition: int, *records: Consumed) -> None:
        """Records as a worker consumes them, in that partition of their topic, whatever their key."""
        for record in records:
            self._produce(record.topic, key=record.key, value=record.value, partition=partition)
        self.flush()

    def beat(self, heartbeat: Heartbeat) -> None:
        self._produce(HEARTBEATS, key=heartbeat.device_id.encode(), value=self.codec.encode(heartbeat))
        self.flush()

    def read(self, topic: str) -> list[Message]:
        """All committed records of a topic, partition by partition in log order. One whose leader has just frozen is
        asked for again: who leads it then answers."""
        until = time.monotonic() + 60
        while True:
            consumer = Consumer(reader(self.kafka, group="test-reader"))
            try:
                partitions = partitions_of(consumer, self.kafka, topic)
                return [message for number in partitions for message in partition_to_end(consumer, topic, number)]
            except Unavailable:
                if time.monotonic() > until:
                    raise
            finally:
                consumer.close()

    def clean(self) -> list[CleanFrame]:
        return [self.codec.decode_frame(CleanFrame, message.value()) for message in self.read(READINGS_CLEAN)]

    def windows(self) -> list[WindowFrame]:
        return [self.codec.decode_frame(WindowFrame, message.value()) for message in self.read(WINDOWS)]

    def rejected(self) -> list[Rejected]:
        return [self.codec.decode(Rejected, message.value()) for message in self.read(READINGS_REJECTED)]

    def alarms(self) -> list[AlarmEvent]:
        return sorted((read_alarm(m.value()) for m in self.read(ALARMS)), key=lambda event: event.time)

    def clean_readings(self) -> int:
        return sum(frame.values.size for frame in self.clean())


def apply(owned: "Ownership", records: Sequence[Consumed]) -> None:
    """One transaction for all of them, as a partition's task makes it."""
    worked = owned.work_out(records)
    if worked is not None:
        owned.commit(worked)


def readings_of(frames: Sequence[CleanFrame]) -> list[tuple[str, str, int, float]]:
    """(device, channel, time, value) of every reading."""
    return [
        (frame.device_id, channel, time, value)
        for frame in frames
        for time, row in zip(frame.times.tolist(), frame.values.tolist(), strict=True)
        for channel, value in zip(frame.channels, row, strict=True)
    ]


@pytest.fixture
def wire(cluster: str) -> Wire:
    """An empty broker with the catalogue's topics."""
    return Wire(cluster)

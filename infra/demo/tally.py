"""What the topics hold, counted record by record under read_committed. Knows the contract; knows no service."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Consumer, Message

from infra.client import reader
from infra.whole_topic import partition_to_end, partitions_of
from schemas.alarms import AlarmEvent, read_alarm
from schemas.codec import Codec
from schemas.frames import CleanFrame, RawFrame, WindowFrame
from schemas.quality import Flag, Test
from schemas.records import Rejected
from schemas.topics import ALARMS, READINGS_CLEAN, READINGS_RAW, READINGS_REJECTED, WINDOWS


@dataclass(slots=True)
class Tally:
    """Counts of readings, unless said otherwise."""

    frames: int = 0  # frames in readings.raw
    clean: int = 0
    twice: int = 0  # (device, channel, time) that stand in readings.clean more than once
    calibrated: int = 0
    suspect: int = 0
    failed: int = 0
    missing: int = 0
    rejected: int = 0
    windows: int = 0  # windows
    alarms: list[AlarmEvent] = field(default_factory=list)


def read_all(kafka: str, topic: str) -> Iterator[Message]:
    """Every committed record of a topic, from its beginning to its present end."""
    consumer = Consumer(reader(kafka, group="telltale-demo"))
    try:
        for number in partitions_of(consumer, kafka, topic):
            yield from partition_to_end(consumer, topic, number)
    finally:
        consumer.close()


def tally(kafka: str) -> Tally:
    """Count everything there is."""
    codec, found = Codec(), Tally()
    for message in read_all(kafka, READINGS_RAW):
        codec.decode_frame(RawFrame, message.value())
        found.frames += 1
    times: dict[tuple[str, str], list[np.ndarray[tuple[int], np.dtype[np.int64]]]] = {}
    for message in read_all(kafka, READINGS_CLEAN):
        frame = codec.decode_frame(CleanFrame, message.value())
        found.clean += frame.values.size
        found.calibrated += int(((frame.tests & Test.NOT_CALIBRATED) == 0).sum())
        found.suspect += int((frame.quality == Flag.SUSPECT).sum())
        found.failed += int((frame.quality == Flag.FAIL).sum())
        found.missing += int((frame.quality == Flag.MISSING).sum())
        for channel in frame.channels:
            times.setdefault((frame.device_id, channel), []).append(frame.times)
    for parts in times.values():
        series = np.concatenate(parts)
        found.twice += len(series) - len(np.unique(series))
    for message in read_all(kafka, READINGS_REJECTED):
        found.rejected += codec.decode(Rejected, message.value()).rows
    for message in read_all(kafka, WINDOWS):
        found.windows += len(codec.decode_frame(WindowFrame, message.value()).channels)
    found.alarms = [read_alarm(message.value()) for message in read_all(kafka, ALARMS) if message.value()]
    return found

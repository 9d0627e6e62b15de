"""The stage's rate beside a bare consume-produce of the same records, in one run.

Records lie in Kafka before anything is measured. W1: one reading a record, 1,000 devices. W2: 10 rows of 20 channels a
record, 50 devices. Both are the standard work on which peers were measured.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from bench_stack import Figure, figure, own_stack, service, share_of
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.client import connection
from infra.offsets import committed
from infra.whole_topic import partitions_of
from schemas.codec import Codec
from schemas.devices import Calibration, Device, Sensor, Station
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.limits import GrossRange, Limits
from schemas.topics import DEVICES, PARTITIONS, READINGS_RAW, STREAMS_GROUP

WINS = """
The bare loop wins: it decodes nothing, judges nothing, remembers nothing and commits without a transaction.
"""

START_US = 1_700_000_400_000_000
WORK = {"W1 single readings": (1_000, 1, 1, 1_500_000), "W2 frames of 10x20": (50, 20, 10, 200_000)}
SPAN = 0.15, 0.95  # of the records: without start and end, and more than the piles that are in hand at the first commit
WORK_S_MAX = 600

BARE = """
import sys, time
from confluent_kafka import Consumer, Producer
kafka, total = sys.argv[1], int(sys.argv[2])
consumer = Consumer({"bootstrap.servers": kafka, "group.id": "bare", "auto.offset.reset": "earliest"})
producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20,
                     "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_000_000})
consumer.subscribe(["readings.raw"])
seen, marks = 0, []
while seen < total:
    for message in consumer.consume(5000, 0.05):
        producer.produce("bare", message.value(), message.key())
        seen += 1
    producer.poll(0)
    marks.append((time.perf_counter(), seen))
producer.flush()
begin = next(m for m in marks if m[1] >= 0.15 * total)
end = next(m for m in marks if m[1] >= 0.95 * total)
print((end[1] - begin[1]) / (end[0] - begin[0]))
"""


def device(device_id: str, channels: tuple[str, ...]) -> Device:
    calibration = Calibration(logger_slope=0.05, logger_offset=0.2, slope=0.046, offset=0.243)
    limits = Limits(gross_range=GrossRange(fail=(0, 75), suspect=(0, 50)))
    facts = {"quantity": "wind_speed", "unit": "m/s", "statistic": "avg"}
    return Device(
        device_id=device_id,
        name=device_id,
        station=Station(station_id="bench", name="bench"),
        interval_s=1,
        sensors=tuple(
            Sensor(channel=name, point=name, calibrations=(calibration,), limits=limits, **facts) for name in channels
        ),
        configured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        configured_by="bench",
    )


def frames(devices: int, channels: tuple[str, ...], rows: int, total: int) -> Iterator[RawFrame]:
    chance = np.random.default_rng(1)
    for number in range(total // devices):
        times = START_US + (number * rows + np.arange(rows)) * 1_000_000
        values = chance.normal(8, 2, (rows, len(channels)))
        at = number * values.size + np.arange(values.size)  # of the device's readings
        values.reshape(-1)[at % 1000 == 0] = 99.0  # one in a thousand is out of range
        for each in range(devices):
            yield RawFrame(f"logger-{each}", "bench", number, times, channels, values)


def fill(kafka: str, devices: int, channels: int, rows: int, total: int) -> None:
    names, codec = tuple(f"ch{number:02}" for number in range(channels)), Codec()
    producer = Producer(
        {
            **connection(kafka),
            "partitioner": PARTITIONER,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )
    for each in range(devices):
        producer.produce(DEVICES, key=f"logger-{each}".encode(), value=codec.encode(device(f"logger-{each}", names)))
    for frame in frames(devices, names, rows, total):
        producer.produce(READINGS_RAW, key=frame.device_id.encode(), value=codec.encode(frame))
        producer.poll(0)
    producer.flush()


def bare_rate(kafka: str, total: int) -> float:
    """Records a second that are consumed and produced by nobody who looks at them. A broker just started has compiled
    itself by then, whoever it is measured with next."""
    admin = AdminClient(connection(kafka))
    admin.create_topics([NewTopic("bare", PARTITIONS, 1)])["bare"].result()
    command = [sys.executable, "-c", BARE, kafka, str(total)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def stage_rate(kafka: str, folder: Path, total: int) -> tuple[float, float]:
    """Records a second between the marks of SPAN, seen by what the group has committed; and CPU seconds in all."""
    import psutil

    with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
        done = rate_within(committed_until(kafka, total), 0, total)
        times = psutil.Process(pid).cpu_times()
    return done, times.user + times.system


def committed_until(kafka: str, total: int) -> list[tuple[float, int]]:
    """(time, records of `readings.raw` that the group has committed), until those are so many."""
    consumer = Consumer({**connection(kafka), "group.id": STREAMS_GROUP})
    partitions = [TopicPartition(READINGS_RAW, each) for each in partitions_of(consumer, kafka, READINGS_RAW)]
    marks, until = [(time.perf_counter(), 0)], time.monotonic() + WORK_S_MAX
    while marks[-1][1] < total:
        if time.monotonic() > until:
            raise RuntimeError(f"{marks[-1][1]} of {total} records were processed in {WORK_S_MAX} s")
        done = sum(max(0, each.offset) for each in committed(consumer, partitions, within_s=30))
        marks.append((time.perf_counter(), done))
        time.sleep(0.005)
    consumer.close()
    return marks


def rate_within(marks: Sequence[tuple[float, int]], first: int, last: int) -> float:
    """Things a second within SPAN of those from `first` to `last`. Interpolated: a pile is committed at once, and the
    bounds of SPAN lie inside one."""
    counts = [first + share * (last - first) for share in SPAN]
    begin, end = np.interp(counts, [mark[1] for mark in marks], [mark[0] for mark in marks])
    return float((counts[1] - counts[0]) / (end - begin))


def run() -> list[Figure]:
    """The stage beside the limit, for both kinds of work."""
    figures = []
    for name, (devices, channels, rows, records) in WORK.items():
        total = share_of(records, devices)
        with own_stack() as (folder, kafka, _):
            fill(kafka, devices, channels, rows, total)
            limit = bare_rate(kafka, total) * rows * channels
            rate, cpu_s = stage_rate(kafka, folder, total)
        readings = total * rows * channels
        figures += [
            figure("stage", f"{name}: bare consume-produce (limit)", limit, "readings/s"),
            figure("stage", f"{name}: stage", rate * rows * channels, "readings/s", beside=limit),
            figure("stage", f"{name}: CPU of the worker, start included", cpu_s * 1e6 / readings, "µs/reading"),
        ]
    return figures

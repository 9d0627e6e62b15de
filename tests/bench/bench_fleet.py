"""What a large fleet costs one worker: memory with 10,000 devices of 20 sensors, and how long states take to restore.

Every sensor has calibrations of its own and limits; every device has sent two frames of ten rows, so that windows are
open and the quality tests remember rows. The limit beside the memory is what was promised: 1.5 GB.
"""

import re
import time
from pathlib import Path

import numpy as np
import psutil
from bench_stack import Figure, figure, own_stack, service
from bench_stage import START_US, device
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.client import connection
from infra.offsets import committed
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.devices import Calibration, Device
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.topics import PARTITIONS, READINGS_RAW, STREAMS_GROUP

DEVICES, CHANNELS, ROWS, FRAMES = 10_000, 20, 10, 2
LIMIT_MB = 1_500
WORK_S_MAX = 600
NAMES = tuple(f"ch{number:02}" for number in range(CHANNELS))


def of_its_own(number: int) -> Device:
    """No sensor's calibration is another's."""
    plain = device(f"logger-{number}", NAMES)
    sensors = tuple(
        sensor.model_copy(update={"calibrations": (Calibration(slope=1 + at / 1e6, offset=number / 1e6),)})
        for at, sensor in enumerate(plain.sensors)
    )
    return plain.model_copy(update={"sensors": sensors})


def send(kafka: str, sequence: int) -> None:
    codec, chance = Codec(), np.random.default_rng(sequence)
    options = {"partitioner": PARTITIONER, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}
    producer = Producer({**connection(kafka), **options, "queue.buffering.max.kbytes": 1_000_000})
    times = START_US + (sequence * ROWS + np.arange(ROWS)) * 1_000_000
    for number in range(DEVICES):
        values = chance.normal(8, 2, (ROWS, CHANNELS))
        frame = RawFrame(f"logger-{number}", "bench", sequence, times, NAMES, values)
        producer.produce(READINGS_RAW, codec.encode(frame), frame.device_id.encode())
        producer.poll(0)
    producer.flush()


def await_done(kafka: str, total: int, process: psutil.Process) -> int:
    """Until the group has committed so many records; the largest memory seen meanwhile."""
    consumer = Consumer({**connection(kafka), "group.id": STREAMS_GROUP})
    wanted = [TopicPartition(READINGS_RAW, number) for number in range(PARTITIONS)]
    until, most = time.monotonic() + WORK_S_MAX, 0
    while time.monotonic() < until:
        most = max(most, process.memory_info().rss)
        if sum(max(0, tp.offset) for tp in committed(consumer, wanted, within_s=30)) >= total:
            break
        time.sleep(0.2)
    else:
        raise RuntimeError(f"{total} records were not processed in {WORK_S_MAX} s")
    consumer.close()
    return most


def run() -> list[Figure]:
    """Memory of a worker without and with the fleet, and the time to take it over."""
    with own_stack() as (folder, kafka, _):
        with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
            alone = psutil.Process(pid).memory_info().rss
        publish(kafka, map(of_its_own, range(DEVICES)))
        began = time.monotonic()
        with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
            configured_s = time.monotonic() - began
            for sequence in range(FRAMES):
                send(kafka, sequence)
            most = await_done(kafka, FRAMES * DEVICES, psutil.Process(pid))
        began = time.monotonic()
        with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
            restored_s = time.monotonic() - began
            opened = [float(s) for s in re.findall(r"partition.opened.* seconds=([\d.]+)", log_of(folder))]
            again = psutil.Process(pid).memory_info().rss
    sensors = DEVICES * CHANNELS
    return [
        figure("fleet", f"memory of a worker with {DEVICES:,} devices of {CHANNELS} sensors", most / 1e6, "MB",
               beside=LIMIT_MB),
        figure("fleet", "memory for each sensor", (most - alone) / sensors, "bytes"),
        figure("fleet", "the same just after a restart", again / 1e6, "MB", beside=LIMIT_MB),
        figure("fleet", "from start to ready without states", configured_s, "s"),
        figure("fleet", "from start to ready with all states", restored_s, "s"),
        figure("fleet", "restoring 1,000 devices, at most", max(opened) / (DEVICES / 1000), "s"),
    ]  # fmt: skip


def log_of(folder: Path) -> str:
    return (folder / "streams-run.log").read_text()

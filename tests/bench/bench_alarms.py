"""From a frame's append in `readings.raw` to its alarm in `alarms` under `read_committed`, beside the broker alone.

200 frames a second of 10x20 readings by 50 devices; a reading of each frame of five of them moves an alarm. The clock
starts with the broker's append time (to the millisecond) and stops when a consumer like `telltale alarms tail` has it.
With 12 partitions, as topics are provisioned, and with 4. What comes while the broker still compiles itself, which
takes half a core for a minute after its start, is left out.
"""

import threading
import time

import numpy as np
import psutil
from bench_latency import broker_alone
from bench_stack import Figure, figure, own_stack, service
from bench_stage import START_US, device
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.client import connection, reader
from producers.stations.devices import publish
from schemas.alarms import read_alarm
from schemas.codec import Codec
from schemas.devices import AlarmRule, Device, RuleKind
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.topics import ALARMS, PARTITIONS, READINGS_RAW

DEVICES, HOT, CHANNELS, ROWS = 50, 5, 20, 10
PER_S, SECONDS, WARM_UP_S = 200, 110, 80
PARTITIONED = 4, PARTITIONS
APART_US = {True: 660_000_000, False: ROWS * 1_000_000}
"""From one frame to the next, by the readings' own time, of a device with alarms: one that came back sooner would
chatter; and of the others."""


def devices() -> list[Device]:
    names = tuple(f"ch{number:02}" for number in range(CHANNELS))
    hot = AlarmRule(name="hot", kind=RuleKind.ABOVE, limit=30)
    found = [device(f"logger-{number}", names) for number in range(DEVICES)]
    return [each.model_copy(update={"alarm_rules": (hot,)}) for each in found[:HOT]] + found[HOT:]


def send(kafka: str, appended: dict[float, float]) -> None:
    """Frames at their times; `appended` gets the broker's time of each frame with an alarm, by the alarm's value."""
    codec, chance = Codec(), np.random.default_rng(1)
    names = tuple(f"ch{number:02}" for number in range(CHANNELS))
    producer = Producer({**connection(kafka), "partitioner": PARTITIONER, "enable.idempotence": True, "linger.ms": 0})

    def told(value: float) -> object:
        return lambda _, message: appended.__setitem__(value, message.timestamp()[1] / 1000)

    began = time.perf_counter()
    for number in range(PER_S * SECONDS):
        each, sequence = number % DEVICES, number // DEVICES
        values = chance.normal(8, 2, (ROWS, CHANNELS))
        value = round((40.0 if sequence % 2 == 0 else 20.0) + number / 10_000, 4)
        calibrated = round(0.046 * (value - 0.2) / 0.05 + 0.243, 6)
        if each < HOT:
            values[:, 0] = value
        times = START_US + sequence * APART_US[each < HOT] + np.arange(ROWS) * 1_000_000
        frame = RawFrame(f"logger-{each}", "bench", sequence, times, names, values)
        wait_s = began + number / PER_S - time.perf_counter()
        if wait_s > 0:
            producer.poll(0)
            time.sleep(wait_s)
        on_delivery = told(calibrated) if each < HOT else None
        producer.produce(READINGS_RAW, codec.encode(frame), frame.device_id.encode(), on_delivery=on_delivery)
        producer.poll(0)
    producer.flush(10)


def append_to_alarm(kafka: str) -> list[float]:
    """Seconds; without those of the first frames."""
    consumer = Consumer({**reader(kafka, group="bench-alarms"), "fetch.wait.max.ms": 500})
    partitions = consumer.list_topics(ALARMS).topics[ALARMS].partitions
    consumer.assign([TopicPartition(ALARMS, number, 0) for number in partitions])
    seen: dict[float, float] = {}
    appended: dict[float, float] = {}
    sender = threading.Thread(target=send, args=(kafka, appended))
    sender.start()
    until = time.monotonic() + SECONDS + 30
    expected = PER_S * SECONDS // DEVICES * HOT
    while len(seen) < expected and time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            now, alarm = time.time(), read_alarm(message.value()).data
            if alarm.rule == "hot" and alarm.value is not None:
                seen[alarm.value] = now
    sender.join()
    consumer.close()
    if missing := set(appended) - set(seen):
        raise RuntimeError(f"{len(missing)} of {expected} alarms did not come, such as of {min(missing)}")
    first = min(appended.values()) + WARM_UP_S
    return [seen[value] - at for value, at in appended.items() if at > first]


def run() -> list[Figure]:
    """p50 and p99 of both."""
    return [each for partitions in PARTITIONED for each in of_partitions(partitions)]


def of_partitions(partitions: int) -> list[Figure]:
    with own_stack(partitions=partitions) as (folder, kafka, _):
        publish(kafka, devices())
        bare = np.percentile(broker_alone(kafka), [50, 99]) * 1000
        with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
            ours = np.percentile(append_to_alarm(kafka), [50, 99]) * 1000
            times = psutil.Process(pid).cpu_times()
    what, figures = f"{partitions} partitions", []
    for name, of_bare, of_ours in zip(("p50", "p99"), bare, ours, strict=True):
        figures += [
            figure("alarms", f"{what}: broker alone, produce to consume, {name}", of_bare, "ms"),
            figure("alarms", f"{what}: append to alarm at {PER_S} frames/s, {name}", of_ours, "ms"),
        ]
    each_ms = (times.user + times.system) * 1000 / (PER_S * SECONDS)
    return [*figures, figure("alarms", f"{what}: CPU of the worker, start included", each_ms, "ms/frame")]

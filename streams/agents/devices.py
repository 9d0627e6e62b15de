"""All devices' configuration in memory, kept up to date by a thread that reads the `devices` topic.

A device configured a second before its first frame must not be rejected: before a device is called unknown,
`catch_up` reads the topic up to its end at that moment.
"""

import threading
import time
from collections.abc import Callable

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.client import reader
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.devices import Device
from schemas.topics import DEVICES
from streams.plan import Plan, plan_of

log = structlog.get_logger()

CATCH_UP_S_MAX = 20.0
"""Longer than a broker's restart; after it the worker ends and starts again rather than judge without knowing."""


class DeviceTable:
    """Plans of all configured devices."""

    def __init__(
        self, kafka: str, admin: AdminClient, codec: Codec, *, failed: Callable[[BaseException], None]
    ) -> None:
        self._admin = admin
        self._codec = codec
        self._failed = failed
        self._plans: dict[str, Plan] = {}
        self._stations: dict[str, tuple[Plan, ...]] = {}
        self._read_to: dict[int, int] = {}
        self._moved = threading.Condition()
        self._stop = threading.Event()
        self._consumer = Consumer({**reader(kafka, group="telltale-streams-devices"), "fetch.wait.max.ms": 500})
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)

    def start(self) -> None:
        """Begin to read; returns when everything there was at the time is read."""
        metadata = self._consumer.list_topics(DEVICES, timeout=CATCH_UP_S_MAX)
        partitions = sorted(metadata.topics[DEVICES].partitions)
        self._read_to = dict.fromkeys(partitions, 0)
        self._consumer.assign([TopicPartition(DEVICES, number, 0) for number in partitions])
        self._thread.start()
        self.catch_up()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def plan(self, device_id: str) -> Plan | None:
        return self._plans.get(device_id)

    def plans(self) -> list[Plan]:
        return list(self._plans.values())

    def station(self, station_id: str) -> tuple[Plan, ...]:
        """The devices of a station, by name."""
        return self._stations.get(station_id, ())

    def catch_up(self) -> None:
        """Read up to the topic's present end. Raises `TimeoutError` when the broker does not answer in time."""
        until = time.monotonic() + CATCH_UP_S_MAX
        # By a connection of its own: on the consumer's the question would wait behind its long poll.
        wanted = {TopicPartition(DEVICES, number): OffsetSpec.latest() for number in self._read_to}
        answers = self._admin.list_offsets(wanted, request_timeout=CATCH_UP_S_MAX)
        ends = {tp.partition: future.result().offset for tp, future in answers.items()}
        with self._moved:
            while any(self._read_to[number] < end for number, end in ends.items()):
                if not self._moved.wait(timeout=max(0.0, until - time.monotonic())):
                    raise TimeoutError(f"the topic {DEVICES} was not read to its end in {CATCH_UP_S_MAX:.0f} s")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(1000, timeout=0.05):
                    error = message.error()
                    if error is None:
                        self._take(message.key(), message.value())
                        self._advance(message.partition(), message.offset() + 1)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._advance(message.partition(), message.offset())
                    elif not error.retriable():
                        log.warning("devices.read_failed", error=str(error))
        except BaseException as error:  # noqa: BLE001 - a thread's failure must end the process
            self._failed(error)
        finally:
            self._consumer.close()

    def _advance(self, partition: int, offset: int) -> None:
        with self._moved:
            self._read_to[partition] = max(self._read_to[partition], offset)
            self._moved.notify_all()

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        device_id = (key or b"").decode(errors="replace")
        if value is None:
            self._move(self._plans.pop(device_id, None), None)
            return
        try:
            plan = plan_of(self._codec.decode(Device, value))
        except Unreadable as error:
            log.warning("devices.unreadable", device=device_id, reason=error.reason, detail=error.detail)
            return
        self._move(self._plans.get(plan.device.device_id), plan)
        self._plans[plan.device.device_id] = plan

    def _move(self, before: Plan | None, after: Plan | None) -> None:
        """Keep the stations' devices; each is replaced whole, for other threads read them."""
        if before is not None:
            station_id = before.device.station.station_id
            device_id = before.device.device_id
            self._stations[station_id] = tuple(p for p in self.station(station_id) if p.device.device_id != device_id)
        if after is not None:
            station_id = after.device.station.station_id
            all_of_it = (*self.station(station_id), after)
            self._stations[station_id] = tuple(sorted(all_of_it, key=lambda plan: plan.device.device_id))

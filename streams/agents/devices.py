"""All devices' configuration in memory, kept up to date by a thread that reads the `devices` topic.

A device configured a second before its first frame must not be rejected: before a device is called unknown,
`catch_up` reads the topic up to its end at that moment.

Ten thousand devices take half a minute to be made into plans. So a record is kept as it came until its plan is asked
for; the thread makes the others meanwhile, and `complete` says when it has made all.
"""

import sys
import threading
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from confluent_kafka.admin import AdminClient

from infra.offsets import ends
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.devices import Calibration, Device, Sensor
from schemas.limits import Limits
from schemas.topics import DEVICES
from streams.agents.followed import Followed
from streams.plan import Plan, plan_of

log = structlog.get_logger()

CATCH_UP_S_MAX = 20.0
"""Longer than a broker's restart; after it the worker ends and starts again rather than judge without knowing."""
MADE_AT_ONCE = 25
"""Plans made between two reads: some 50 ms of work, so that the thread keeps half of its time for news."""


@dataclass(slots=True)
class _Known:
    """A device's newest record: as it came, or as a plan."""

    value: bytes | None
    plan: Plan | None
    former: "_Known | None"  # counts if this one cannot be read


class DeviceTable:
    """Plans of all configured devices."""

    def __init__(
        self, kafka: str, admin: AdminClient, codec: Codec, *, failed: Callable[[BaseException], None]
    ) -> None:
        self._admin = admin
        self._codec = codec
        self.changes = 0  # of plans: made, replaced, removed
        self._known: dict[str, _Known] = {}
        self._unmade: dict[str, None] = {}  # whose plan nobody has asked for yet
        self._making = threading.RLock()
        self._limits: dict[Limits, Limits] = {}
        self._stations: dict[str, tuple[Plan, ...]] = {}
        self._topic = Followed(
            kafka, DEVICES, take=self._take, failed=failed, fetch_wait_ms=500, between=self._make_some
        )

    def start(self) -> None:
        """Begin to read; returns when everything there was at the time is read."""
        self._topic.start(within_s=CATCH_UP_S_MAX)
        self.catch_up()

    def stop(self) -> None:
        self._topic.stop()

    def plan(self, device_id: str) -> Plan | None:
        known = self._known.get(device_id)
        if known is None or known.plan is not None:
            return known.plan if known else None
        return self._make(device_id)

    @property
    def complete(self) -> bool:
        """Whether every device read has its plan, and with it its place at its station."""
        return not self._unmade

    def plans(self) -> list[Plan]:
        """Those made so far."""
        return [known.plan for known in list(self._known.values()) if known.plan is not None]

    def station(self, station_id: str) -> tuple[Plan, ...]:
        """The devices of a station, by id."""
        return self._stations.get(station_id, ())

    def catch_up(self) -> None:
        """Read up to the topic's present end. Raises `TimeoutError` when the broker does not answer in time."""
        # By a connection of its own: on the consumer's the question would wait behind its long poll.
        found = ends(self._admin, self._topic.partitions, within_s=CATCH_UP_S_MAX)
        self._topic.await_ends({number: end for (_, number), end in found.items()}, within_s=CATCH_UP_S_MAX)

    def _make_some(self) -> None:
        for device_id in list(self._unmade)[:MADE_AT_ONCE]:
            self._make(device_id)

    def _take(self, message: Any) -> None:
        key, value = message.key(), message.value()
        device_id = (key or b"").decode(errors="replace")
        with self._making:
            before = self._known.get(device_id)
            if value is None:
                self._known.pop(device_id, None)
                self._unmade.pop(device_id, None)
                self._move(_plan_before(before), None)
                return
            self._known[device_id] = _Known(value, None, before)
            self._unmade[device_id] = None
            if before is not None and before.plan is not None:  # it is at work: a change takes effect at once
                self._make(device_id)

    def _make(self, device_id: str) -> Plan | None:
        with self._making:
            known = self._known.get(device_id)
            if known is None or known.plan is not None:
                return known.plan if known else None
            before = _plan_before(known.former)
            readable: _Known | None = known
            while readable is not None and readable.plan is None:
                try:
                    readable.plan = plan_of(self._shared(self._codec.decode(Device, readable.value)))
                except Unreadable as error:
                    log.warning("devices.unreadable", device=device_id, reason=error.reason, detail=error.detail)
                    readable = readable.former
                except Exception:  # a bug of ours that one device's configuration meets: the others go on
                    log.exception("devices.throws", device=device_id)
                    readable = readable.former
            self._unmade.pop(device_id, None)
            if readable is None or readable.plan is None:
                self._known.pop(device_id, None)
                return None
            readable.value = readable.former = None
            self._known[device_id] = readable
            self._move(before, readable.plan)
            return readable.plan

    def _shared(self, device: Device) -> Device:
        """The same with parts that are alike shared: of 5 kB a sensor 1 kB is left."""
        sensors = []
        for sensor in device.sensors:
            limits = self._limits.setdefault(sensor.limits, sensor.limits)
            facts: dict[str, Any] = {name: sys.intern(v) if isinstance(v, str) else v for name, v in sensor}
            facts |= {"limits": limits, "calibrations": tuple(map(_lean, sensor.calibrations))}
            sensors.append(Sensor.model_construct(_fields_set=_NO_FIELDS, **facts))
        return device.model_copy(update={"sensors": tuple(sensors)})

    def _move(self, before: Plan | None, after: Plan | None) -> None:
        """Keep the stations' devices; each is replaced whole, for other threads read them."""
        self.changes += 1
        if before is not None:
            station_id = before.device.station.station_id
            device_id = before.device.device_id
            self._stations[station_id] = tuple(p for p in self.station(station_id) if p.device.device_id != device_id)
        if after is not None:
            station_id = after.device.station.station_id
            all_of_it = list(self.station(station_id))
            insort(all_of_it, after, key=lambda plan: plan.device.device_id)
            self._stations[station_id] = tuple(all_of_it)


M = TypeVar("M", Sensor, Calibration)

_NO_FIELDS: set[str] = set()
"""Which fields were given is of no use here, and as large as the fields."""


def _lean(part: M) -> M:
    return part.model_construct(_fields_set=_NO_FIELDS, **dict(part))


def _plan_before(known: _Known | None) -> Plan | None:
    """The plan that was at work last."""
    while known is not None and known.plan is None:
        known = known.former
    return known.plan if known else None

"""Which alarm rules are in force for a device, and where each stands. Pure: a configuration in, rules out.

A rule of the same name nearer to the thing replaces the one further away: default, fleet, station, device, sensor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.alarms import Severity
from schemas.devices import SENSOR_KINDS, AlarmRule, Device, RuleKind, Sensor

DEFAULTS: tuple[AlarmRule, ...] = (
    AlarmRule(name="device_silent", kind=RuleKind.SILENCE, severity=Severity.MAJOR),
    AlarmRule(name="sequence_gap", kind=RuleKind.SEQUENCE_GAP, severity=Severity.WARNING, on_delay_s=600),
    AlarmRule(name="clock_skew", kind=RuleKind.CLOCK_SKEW, severity=Severity.WARNING, limit=60, hysteresis=30),
    AlarmRule(name="rejected_share", kind=RuleKind.REJECTED_SHARE, limit=0.1, off_delay_s=60),
    AlarmRule(name="spool_dropping", kind=RuleKind.SPOOL_DROPPING, severity=Severity.MAJOR, off_delay_s=600),
    AlarmRule(name="spool_damaged", kind=RuleKind.SPOOL_DAMAGED, severity=Severity.MAJOR),
    AlarmRule(name="source_failed", kind=RuleKind.SOURCE_FAILED, severity=Severity.MINOR),
    AlarmRule(name="duplicate_device", kind=RuleKind.DUPLICATE_DEVICE, severity=Severity.MAJOR, limit=1),
    AlarmRule(name="quality_share", kind=RuleKind.QUALITY_SHARE, limit=0.5, on_delay_s=1800),
)
"""What every device has unless its configuration says otherwise. Nothing here knows what a sensor should read."""

LIMIT_UNITS = {
    RuleKind.SILENCE: "s",
    RuleKind.SENSOR_SILENCE: "s",
    RuleKind.QUALITY_SHARE: "share",
    RuleKind.SEQUENCE_GAP: "frames",
    RuleKind.CLOCK_SKEW: "s",
    RuleKind.REJECTED_SHARE: "share",
    RuleKind.SPOOL_DROPPING: "readings",
    RuleKind.SPOOL_DAMAGED: "spools",
    RuleKind.SOURCE_FAILED: "sources",
    RuleKind.DUPLICATE_DEVICE: "spools",
}
"""Of kinds whose limit is not in the sensor's unit."""


class Level(StrEnum):
    """Where a rule stands, furthest first."""

    DEFAULT = "default"
    FLEET = "fleet"
    STATION = "station"
    DEVICE = "device"
    SENSOR = "sensor"


@dataclass(frozen=True, slots=True)
class InForce:
    """A rule that counts for a device or for one of its sensors."""

    rule: AlarmRule
    level: Level
    sensor: Sensor | None = None  # None: about the whole device


def standing(device: Device, sensor: Sensor | None = None) -> Iterator[tuple[Level, AlarmRule]]:
    """Every rule that a device has, or one of its sensors too, furthest first; also those that do not count."""
    levels = {
        Level.DEFAULT: DEFAULTS,
        Level.FLEET: device.fleet_alarm_rules,
        Level.STATION: device.station.alarm_rules,
        Level.DEVICE: device.alarm_rules,
        Level.SENSOR: sensor.alarm_rules if sensor else (),
    }
    for level, rules in levels.items():
        yield from ((level, rule) for rule in rules)


def in_force(device: Device) -> Iterator[InForce]:
    """The rules that count: those about the device, then sensor by sensor."""
    for level, rule in _nearest(device, None):
        if rule.kind not in SENSOR_KINDS:
            yield InForce(rule, level)
    for sensor in device.sensors:
        for level, rule in _nearest(device, sensor):
            if rule.kind in SENSOR_KINDS and _meant(rule, sensor):
                yield InForce(rule, level, sensor)


def _nearest(device: Device, sensor: Sensor | None) -> list[tuple[Level, AlarmRule]]:
    """One rule per name: that of the nearest level that has it, if it is enabled."""
    nearest = {rule.name: (level, rule) for level, rule in standing(device, sensor)}
    return [(level, rule) for level, rule in nearest.values() if rule.enabled]


def _meant(rule: AlarmRule, sensor: Sensor) -> bool:
    """Whether the rule is for this sensor. A window that the sensor does not have cannot be judged."""
    if rule.quantity not in (None, sensor.quantity) or rule.statistic not in (None, sensor.statistic):
        return False
    if rule.kind is RuleKind.QUALITY_SHARE:
        return bool(sensor.windows_s) and rule.window_s in (None, *sensor.windows_s)
    return rule.window_s is None or rule.window_s in sensor.windows_s

"""Alarm rules put into devices' configurations, and taken out. Pure: devices in, changed devices out; knows no broker.

A rule for the fleet stands in every device's record, one for a station in the records of its devices: whoever reads
one record has all rules of that device.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from schemas.alarm_rules import DEFAULTS, Level, in_force
from schemas.devices import AlarmRule, Device
from schemas.errors import Refused


@dataclass(frozen=True, slots=True)
class Scope:
    """For what a rule stands: the fleet, a station, a device, or a sensor (`DEVICE/CHANNEL`)."""

    level: Level
    name: str = ""

    def __str__(self) -> str:
        return "the fleet" if self.level is Level.FLEET else f"{self.level} {self.name}"

    def devices(self, known: Mapping[str, Device]) -> list[Device]:
        """Whose records the rule stands in. Raises `Refused` if there are none."""
        device_id, _, channel = self.name.partition("/")
        found = [device for _, device in sorted(known.items()) if self._concerns(device, device_id)]
        if not found:
            if not known:
                raise Refused("no device is configured; `telltale stations import FILE` does it")
            of_station = self.level is Level.STATION
            there = {device.station.station_id for device in known.values()} if of_station else known
            what = f'no {"station" if of_station else "device"} "{self.name if of_station else device_id}"'
            raise Refused(f"{what} is configured; there are: {some(there)}")
        if self.level is Level.SENSOR and channel not in (channels := [s.channel for s in found[0].sensors]):
            raise Refused(f'device {device_id} has no channel "{channel}"; there are: {some(channels)}')
        return found

    def _concerns(self, device: Device, device_id: str) -> bool:
        if self.level is Level.STATION:
            return device.station.station_id == self.name
        return self.level is Level.FLEET or device.device_id == device_id

    def rules(self, device: Device) -> tuple[AlarmRule, ...]:
        """Those that stand there now."""
        if self.level is Level.FLEET:
            return device.fleet_alarm_rules
        if self.level is Level.STATION:
            return device.station.alarm_rules
        if self.level is Level.DEVICE:
            return device.alarm_rules
        return next(sensor.alarm_rules for sensor in device.sensors if sensor.channel == self.name.partition("/")[2])

    def replaced(self, device: Device, rules: Iterable[AlarmRule]) -> Device:
        """The device with other rules there. Raises `Refused` if they do not fit it."""
        facts = device.model_dump()
        dumped = [rule.model_dump() for rule in rules]
        if self.level is Level.FLEET:
            facts["fleet_alarm_rules"] = dumped
        elif self.level is Level.STATION:
            facts["station"]["alarm_rules"] = dumped
        elif self.level is Level.DEVICE:
            facts["alarm_rules"] = dumped
        else:
            channel = self.name.partition("/")[2]
            next(sensor for sensor in facts["sensors"] if sensor["channel"] == channel)["alarm_rules"] = dumped
        try:
            return Device.model_validate(facts)
        except ValidationError as error:
            raise Refused(f"device {device.device_id}: {_said(error)}") from None


@dataclass(frozen=True, slots=True)
class Changed:
    """Devices with the rule as it is now, and for how many of them or their sensors it is in force."""

    devices: tuple[Device, ...]
    rules: tuple[AlarmRule, ...]  # what was written; one, unless devices had different ones
    in_force: int


def put(
    known: Mapping[str, Device], scope: Scope, name: str, facts: Mapping[str, Any], *, now: datetime, who: str
) -> Changed:
    """Set a rule: `facts` replace those of the rule of this name that counts there now, or make a new one."""
    changed, written = [], []
    for device in scope.devices(known):
        rule = _rule({**_before(device, scope, name), **facts, "name": name})
        others = [each for each in scope.rules(device) if each.name != name]
        after = scope.replaced(device, [*others, rule])
        changed.append(after.model_copy(update={"configured_at": now, "configured_by": who}))
        written.append(rule)
    count = sum(1 for device in changed for each in in_force(device) if _counts(each, scope, name))
    return Changed(tuple(changed), tuple(dict.fromkeys(written)), count)


def _counts(each: Any, scope: Scope, name: str) -> bool:
    """Whether this rule in force is the one that stands at the scope."""
    if each.rule.name != name or each.level is not scope.level:
        return False
    return scope.level is not Level.SENSOR or each.sensor.channel == scope.name.partition("/")[2]


def take_out(known: Mapping[str, Device], scope: Scope, name: str, *, now: datetime, who: str) -> Changed:
    """Remove a rule from where it stands; one of its name further away counts again. Raises `Refused`."""
    changed, taken = [], []
    for device in scope.devices(known):
        rules = scope.rules(device)
        if any(rule.name == name for rule in rules):
            after = scope.replaced(device, [rule for rule in rules if rule.name != name])
            changed.append(after.model_copy(update={"configured_at": now, "configured_by": who}))
            taken += [rule for rule in rules if rule.name == name]
    if not changed:
        there = {rule.name for device in scope.devices(known) for rule in scope.rules(device)}
        built_in = any(rule.name == name for rule in DEFAULTS)
        how = f"; it is built in, and switched off with: telltale alarms rules set {name} --disable ..."
        raise Refused(f'no rule "{name}" stands at {scope} (there: {some(there)}){how if built_in else ""}')
    return Changed(tuple(changed), tuple(dict.fromkeys(taken)), len(changed))


def adopted(device: Device, known: Mapping[str, Device]) -> Device:
    """A device about to be configured anew, with the rules that stand for it already where it says nothing of them."""
    before = known.get(device.device_id)
    station = device.station
    if "alarm_rules" not in station.model_fields_set:
        of_station = [d.station for d in known.values() if d.station.station_id == station.station_id]
        if of_station:
            station = station.model_copy(update={"alarm_rules": of_station[0].alarm_rules})
    update: dict[str, Any] = {"station": station}
    if known and "fleet_alarm_rules" not in device.model_fields_set:
        update["fleet_alarm_rules"] = next(iter(known.values())).fleet_alarm_rules
    if before is not None:
        if "alarm_rules" not in device.model_fields_set:
            update["alarm_rules"] = before.alarm_rules
        rules = {sensor.channel: sensor.alarm_rules for sensor in before.sensors}
        update["sensors"] = tuple(
            sensor.model_copy(update={"alarm_rules": rules[sensor.channel]})
            if "alarm_rules" not in sensor.model_fields_set and sensor.channel in rules
            else sensor
            for sensor in device.sensors
        )
    return device.model_copy(update=update)


def last_places(known: Mapping[str, Device], removed: Iterable[Device]) -> list[tuple[str, list[str]]]:
    """Places whose rules stand in no record any more once these devices are removed, and the rules' names."""
    gone = {device.device_id: device for device in removed}
    left = {device.station.station_id for name, device in known.items() if name not in gone}
    found: dict[str, tuple[AlarmRule, ...]] = {}
    for device in gone.values():
        station = device.station
        if station.station_id not in left:
            found[str(Scope(Level.STATION, station.station_id))] = station.alarm_rules
        if not left:
            found[str(Scope(Level.FLEET))] = device.fleet_alarm_rules
    return [(place, [rule.name for rule in rules]) for place, rules in found.items() if rules]


def written(known: Mapping[str, Device]) -> Iterator[tuple[Scope, AlarmRule]]:
    """Every rule that somebody has set, each once, furthest first."""
    found: dict[tuple[Scope, AlarmRule], None] = {}
    by_level: dict[Level, list[tuple[Scope, AlarmRule]]] = {level: [] for level in Level}
    for _, device in sorted(known.items()):
        scopes = [
            Scope(Level.FLEET),
            Scope(Level.STATION, device.station.station_id),
            Scope(Level.DEVICE, device.device_id),
            *(Scope(Level.SENSOR, f"{device.device_id}/{sensor.channel}") for sensor in device.sensors),
        ]
        for scope in scopes:
            by_level[scope.level] += [(scope, rule) for rule in scope.rules(device)]
    for each in (each for level in Level for each in by_level[level]):
        found.setdefault(each)
    yield from found


def _before(device: Device, scope: Scope, name: str) -> dict[str, Any]:
    """The facts of the rule of this name that counts at the scope now."""
    facts: dict[str, Any] = {}
    levels: list[tuple[AlarmRule, ...]] = [DEFAULTS, device.fleet_alarm_rules]
    if scope.level is not Level.FLEET:
        levels.append(device.station.alarm_rules)
    if scope.level in {Level.DEVICE, Level.SENSOR}:
        levels.append(device.alarm_rules)
    if scope.level is Level.SENSOR:
        levels.append(scope.rules(device))
    for rules in levels:
        facts = next((rule.model_dump() for rule in rules if rule.name == name), facts)
    return facts


def _rule(facts: Mapping[str, Any]) -> AlarmRule:
    if "kind" not in facts:
        known = ", ".join(rule.name for rule in DEFAULTS)
        raise Refused(f'there is no rule "{facts["name"]}" to change: a new one needs --kind (built in: {known})')
    try:
        return AlarmRule.model_validate(facts)
    except ValidationError as error:
        raise Refused(_said(error)) from None


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    return f"{'.'.join(map(str, first['loc']))}: {message}, got {first['input']!r}"


def some(names: Iterable[str]) -> str:
    """At most ten of them."""
    ordered = sorted(names)
    return (", ".join(ordered[:10]) or "none") + (f" and {len(ordered) - 10} more" if len(ordered) > 10 else "")

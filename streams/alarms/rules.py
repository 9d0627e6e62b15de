"""To what the rules of a device are bound. Pure: configuration in, bound rules out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from schemas.alarm_rules import LIMIT_UNITS, in_force
from schemas.alarms import Severity
from schemas.devices import SENSOR_KINDS, AlarmRule, Device, RuleKind, Sensor

Key = tuple[str, str]  # rule, source

STATION_SILENT = "station_silent"
ALARM_FLOOD = "alarm_flood"
DEVICE_SILENT = "device_silent"
STAGE_BEHIND = "stage_behind"
FRAMES_THROW = "frames_throw"

WALL = frozenset(
    {
        RuleKind.SILENCE,
        RuleKind.SENSOR_SILENCE,
        RuleKind.SEQUENCE_GAP,
        RuleKind.CLOCK_SKEW,
        RuleKind.REJECTED_SHARE,
        RuleKind.SPOOL_DROPPING,
        RuleKind.SPOOL_DAMAGED,
        RuleKind.SOURCE_FAILED,
        RuleKind.DUPLICATE_DEVICE,
    }
)
"""Kinds whose delays run by the wall clock; those of the others run by the readings' own time."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule about one source."""

    rule: str
    kind: RuleKind | str
    source: str
    severity: Severity
    limit: float | None
    unit: str | None = None
    hysteresis: float = 0.0
    on_delay_us: int = 0
    off_delay_us: int = 0
    latched: bool = False
    channel: str = ""
    quantity: str = ""
    length_s: int = 0  # of the windows
    figure: str = ""

    @property
    def key(self) -> Key:
        return self.rule, self.source

    @property
    def wall(self) -> bool:
        """Whether its delays run by the wall clock."""
        return self.kind in WALL or not isinstance(self.kind, RuleKind)


@dataclass(frozen=True, slots=True)
class Rules:
    """A device's rules, by what they need to be judged."""

    bound: Mapping[Key, Bound] = field(default_factory=lambda: MappingProxyType({}))
    silence: tuple[Bound, ...] = ()
    sensor_silence: tuple[Bound, ...] = ()
    values: tuple[Bound, ...] = ()  # above, below, rate
    figures: Mapping[int, tuple[Bound, ...]] = field(default_factory=lambda: MappingProxyType({}))  # by window length
    gap: tuple[Bound, ...] = ()
    skew: tuple[Bound, ...] = ()
    share: tuple[Bound, ...] = ()
    spool: tuple[Bound, ...] = ()
    damage: tuple[Bound, ...] = ()
    sources: tuple[Bound, ...] = ()
    duplicates: tuple[Bound, ...] = ()
    channels: tuple[str, ...] = ()  # that have a rule on values

    def saying(self, told: Iterable[Bound]) -> "Rules":
        """Some of them with words of this moment in what they say."""
        return replace(self, bound=MappingProxyType({**self.bound, **{bound.key: bound for bound in told}}))


def device_source(device: Device) -> str:
    return f"device/{device.device_id}"


def sensor_source(device: Device, channel: str) -> str:
    return f"device/{device.device_id}/{channel}"


def station_source(station_id: str) -> str:
    return f"station/{station_id}"


def rules_of(device: Device) -> Rules:
    """All rules of a device, bound."""
    each_bound = (_bind(each.rule, device, each.sensor) for each in in_force(device))
    bound: dict[Key, Bound] = {each.key: each for each in each_bound}

    def kinds(*wanted: RuleKind) -> tuple[Bound, ...]:
        return tuple(each for each in bound.values() if each.kind in wanted)

    values = kinds(RuleKind.ABOVE, RuleKind.BELOW, RuleKind.RATE)
    windowed = kinds(RuleKind.WINDOW_ABOVE, RuleKind.WINDOW_BELOW, RuleKind.QUALITY_SHARE)
    lengths = sorted({each.length_s for each in windowed})
    return Rules(
        bound=MappingProxyType(bound),
        silence=kinds(RuleKind.SILENCE),
        sensor_silence=kinds(RuleKind.SENSOR_SILENCE),
        values=values,
        figures=MappingProxyType({s: tuple(each for each in windowed if each.length_s == s) for s in lengths}),
        gap=kinds(RuleKind.SEQUENCE_GAP),
        skew=kinds(RuleKind.CLOCK_SKEW),
        share=kinds(RuleKind.REJECTED_SHARE),
        spool=kinds(RuleKind.SPOOL_DROPPING),
        damage=kinds(RuleKind.SPOOL_DAMAGED),
        sources=kinds(RuleKind.SOURCE_FAILED),
        duplicates=kinds(RuleKind.DUPLICATE_DEVICE),
        channels=tuple(dict.fromkeys(each.channel for each in values)),
    )


def _bind(rule: AlarmRule, device: Device, sensor: Sensor | None) -> Bound:
    limit, unit = rule.limit, LIMIT_UNITS.get(rule.kind)
    if rule.kind is RuleKind.SILENCE and limit is None:
        limit = device.silence_limit_s
    elif limit is None and rule.kind not in SENSOR_KINDS:  # one is too many
        limit = 0.0
    length_s = 0
    if sensor is not None:
        if rule.kind is RuleKind.RATE:
            unit = f"{sensor.unit}/s"
        elif unit is None:
            unit = "share" if rule.figure == "completeness" else sensor.unit
        if rule.kind in (RuleKind.WINDOW_ABOVE, RuleKind.WINDOW_BELOW, RuleKind.QUALITY_SHARE):
            length_s = rule.window_s or min(sensor.windows_s)
    return Bound(
        rule=rule.name,
        kind=rule.kind,
        source=sensor_source(device, sensor.channel) if sensor else device_source(device),
        severity=rule.severity,
        limit=limit,
        unit=unit,
        hysteresis=rule.hysteresis,
        on_delay_us=round(rule.on_delay_s * 1e6),
        off_delay_us=round(rule.off_delay_s * 1e6),
        latched=rule.latched,
        channel=sensor.channel if sensor else "",
        quantity=sensor.quantity if sensor else "",
        length_s=length_s,
        figure=rule.figure or "",
    )

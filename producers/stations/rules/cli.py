"""`telltale alarms rules`: what raises an alarm, for the fleet, a station, a device or a sensor."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import orjson

from infra.caller import caller
from infra.counted import counted
from infra.options import KAFKA
from producers.stations.rules.placing import Changed, Scope, put, take_out, written
from schemas.alarm_rules import DEFAULTS, LIMIT_UNITS, Level, in_force
from schemas.alarms import Severity
from schemas.devices import AlarmRule, Device, RuleKind
from schemas.errors import Refused

F = TypeVar("F", bound=Callable[..., Any])

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
FIGURES = ("mean", "sd", "min", "max", "completeness")


class Length(click.ParamType):
    """`90`, `90s`, `10m`, `8h` or `2d` as seconds."""

    name = "LENGTH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = value if isinstance(value, float) else seconds_of(str(value))
        if seconds is None:
            self.fail(f'expected a length such as 90s, 10m, 8h or 2d, got "{value}"', param, ctx)
        return seconds


def seconds_of(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    return float(match[1]) * UNITS_S[match[2] or "s"] if match else None


def limit_of(text: str, kind: RuleKind | None) -> float | None:
    """A number; for limits in seconds also a length, for shares also a per cent. `none`: what goes without saying."""
    unit = LIMIT_UNITS.get(kind) if kind else None
    if text.lower() == "none":
        return None
    if unit == "s" and (seconds := seconds_of(text)) is not None:
        return seconds
    percent = unit == "share" and text.endswith("%")
    try:
        number = float(text.removesuffix("%") if percent else text)
    except ValueError:
        like = {"s": "seconds, or a length such as 10m", "share": "a share such as 0.2 or 20%"}.get(
            unit or "", "a number"
        )
        raise Refused(f'--limit: expected {like}, got "{text}"') from None
    return number / 100 if percent else number


def scope_options(command: F) -> F:
    """For what a rule stands."""
    for option in (
        click.option("--sensor", metavar="DEVICE/CHANNEL", help="For this sensor."),
        click.option("--device", metavar="ID", help="For this device and its sensors."),
        click.option("--station", metavar="ID", help="For all devices of this station."),
        click.option("--all", "fleet", is_flag=True, help="For all devices, also those that will be configured."),
    ):
        command = option(command)
    return command


def scope_of(fleet: bool, station: str | None, device: str | None, sensor: str | None) -> Scope | None:
    said = [
        *([Scope(Level.FLEET)] if fleet else []),
        *(Scope(level, name) for level, name in
          ((Level.STATION, station), (Level.DEVICE, device), (Level.SENSOR, sensor)) if name is not None),
    ]  # fmt: skip
    if len(said) > 1:
        raise click.UsageError("say one of --all, --station, --device, --sensor")
    if sensor is not None and not all(sensor.partition("/")):
        raise Refused(f'--sensor: expected DEVICE/CHANNEL, got "{sensor}"')
    return said[0] if said else None


def needed(scope: Scope | None) -> Scope:
    if scope is None:
        raise click.UsageError("say for what: --all, --station ID, --device ID or --sensor DEVICE/CHANNEL")
    return scope


@click.group()
def rules() -> None:
    """What raises an alarm. The nearest rule of a name counts: built in, fleet, station, device, sensor."""


@rules.command("list")
@scope_options
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
@KAFKA
def list_rules(
    *, fleet: bool, station: str | None, device: str | None, sensor: str | None, as_json: bool, kafka: str | None
) -> None:
    """The rules built in, and those that somebody has set.

    Of a station, device or sensor: those that are in force.
    """
    from infra.stack import kafka_address
    from producers.stations.devices import read_devices

    scope = scope_of(fleet, station, device, sensor)
    known = read_devices(kafka_address(kafka))
    shown: list[tuple[str, str, AlarmRule]] = []
    if scope is None or scope.level is Level.FLEET:
        shown += [(Level.DEFAULT, "", rule) for rule in DEFAULTS]
        shown += [(s.level, s.name, rule) for s, rule in written(known) if scope is None or s.level is Level.FLEET]
    else:
        for one in scope.devices(known):
            shown += _in_force(one, scope)
    for level, name, rule in shown:
        if as_json:
            told = {"level": level, "source": name or None, "rule": rule.model_dump(mode="json")}
            click.echo(orjson.dumps(told))
        else:
            click.echo(f"{level:<8} {name:<28} {_line(rule)}".rstrip())


def _in_force(device: Device, scope: Scope) -> list[tuple[str, str, AlarmRule]]:
    """With what each is about."""
    return [
        (each.level, name, each.rule)
        for each in in_force(device)
        for name in [f"{device.device_id}/{each.sensor.channel}" if each.sensor else device.device_id]
        if scope.level is not Level.SENSOR or name == scope.name
    ]


def _line(rule: AlarmRule) -> str:
    """One line about a rule."""
    unit = LIMIT_UNITS.get(rule.kind, "")
    parts = [f"{rule.name:<20} {rule.kind:<14} {rule.severity:<8}"]
    if not rule.enabled:
        parts.append("switched off")
    if rule.limit is not None:
        parts.append(f"limit {rule.limit:g} {unit}".rstrip())
    if rule.figure or rule.window_s:
        parts.append(f"of {rule.figure or 'failed readings'} in windows of {rule.window_s or 'the shortest'} s")
    parts += [f"{word} {value:g}" for word, value in (("hysteresis", rule.hysteresis),) if value]
    parts += [f"{w} {v:g} s" for w, v in (("on-delay", rule.on_delay_s), ("off-delay", rule.off_delay_s)) if v]
    parts += [
        f"{word} {value}" for word, value in (("quantity", rule.quantity), ("statistic", rule.statistic)) if value
    ]
    if rule.latched:
        parts.append("latched")
    return "  ".join(parts)


@rules.command("set")
@click.argument("name")
@scope_options
@click.option("--kind", type=click.Choice([kind.value for kind in RuleKind]), help="What it looks at; a new rule's.")
@click.option("--limit", metavar="NUMBER", help="10m for seconds, 20% for shares; none: as the kind has it.")
@click.option("--hysteresis", type=float, metavar="NUMBER", help="How far back from the limit ends the condition.")
@click.option("--on-delay", "on_delay_s", type=Length(), help="It must last so long to raise.")
@click.option("--off-delay", "off_delay_s", type=Length(), help="It must be gone so long to clear.")
@click.option("--severity", type=click.Choice([severity.value for severity in Severity]), help="How bad it is.")
@click.option("--latched/--not-latched", default=None, help="Stays until somebody acknowledges it.")
@click.option("--window", "window_s", type=Length(), help="Length of the windows it looks at.")
@click.option("--figure", type=click.Choice(FIGURES), help="Of the window.")
@click.option("--quantity", metavar="WORD", help="Only sensors of this quantity.")
@click.option("--statistic", metavar="WORD", help="Only sensors of this statistic.")
@click.option("--enable/--disable", "enabled", default=None, help="Switched off, it hides those further away.")
@click.option("--dry-run", is_flag=True, help="Check and show; publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: what was set, as one JSON object.")
@KAFKA
def set_rule(
    *,
    name: str,
    fleet: bool,
    station: str | None,
    device: str | None,
    sensor: str | None,
    limit: str | None,
    dry_run: bool,
    as_json: bool,
    kafka: str | None,
    **facts: Any,
) -> None:
    """Set the rule NAME. What is not said stays as it is, or as the rule of this name further away has it.

    \b
    telltale alarms rules set hot --kind above --limit 40 --sensor mast-7/Temp --on-delay 10m
    telltale alarms rules set device_silent --all --limit 15m --severity critical
    telltale alarms rules set sequence_gap --station hill --disable
    """
    scope = needed(scope_of(fleet, station, device, sensor))
    from infra.stack import kafka_address
    from producers.stations.devices import publish, read_devices

    said = {key: value for key, value in facts.items() if value is not None}
    if "window_s" in said:
        said["window_s"] = _whole(said["window_s"])
    address = kafka_address(kafka)
    known = read_devices(address)
    if limit is not None:
        said["limit"] = limit_of(limit, _kind(said, known, scope, name))
    changed = put(known, scope, name, said, now=datetime.now(UTC), who=caller())
    if not dry_run:
        publish(address, changed.devices)
    if not changed.in_force and changed.rules[0].enabled:
        click.echo(f'warning: "{name}" is in force nowhere: no sensor there has what it looks at', err=True)
    if as_json:
        _print_changed(changed, scope, published=not dry_run)
        return
    for rule in changed.rules:
        click.echo(f"{'would set' if dry_run else 'set'} for {scope}: {_line(rule)}")
    click.echo(f"in force {counted(changed.in_force, 'time')} at {counted(len(changed.devices), 'device')}")


def _whole(seconds: float) -> int:
    if seconds != int(seconds):
        raise Refused(f"--window: expected whole seconds, got {seconds:g}")
    return int(seconds)


def _kind(said: dict[str, Any], known: dict[str, Device], scope: Scope, name: str) -> RuleKind | None:
    """That of the rule which is changed, to know what its limit is measured in."""
    if "kind" in said:
        return RuleKind(said["kind"])
    rules = (rule for device in scope.devices(known) for rule in (*scope.rules(device), *_further(device)))
    return next((rule.kind for rule in rules if rule.name == name), None)


def _further(device: Device) -> tuple[AlarmRule, ...]:
    return (*device.alarm_rules, *device.station.alarm_rules, *device.fleet_alarm_rules, *DEFAULTS)


@rules.command()
@click.argument("name")
@scope_options
@click.option("--dry-run", is_flag=True, help="Check and show; publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: what was removed, as one JSON object.")
@KAFKA
def remove(
    *,
    name: str,
    fleet: bool,
    station: str | None,
    device: str | None,
    sensor: str | None,
    dry_run: bool,
    as_json: bool,
    kafka: str | None,
) -> None:
    """Take the rule NAME out from where it stands.

    One of its name further away counts again.
    """
    scope = needed(scope_of(fleet, station, device, sensor))
    from infra.stack import kafka_address
    from producers.stations.devices import publish, read_devices

    address = kafka_address(kafka)
    changed = take_out(read_devices(address), scope, name, now=datetime.now(UTC), who=caller())
    if not dry_run:
        publish(address, changed.devices)
    if as_json:
        _print_changed(changed, scope, published=not dry_run)
        return
    for rule in changed.rules:
        click.echo(f"{'would remove' if dry_run else 'removed'} from {scope}: {_line(rule)}")


def _print_changed(changed: Changed, scope: Scope, *, published: bool) -> None:
    told = {
        "level": scope.level.value,
        "source": scope.name or None,
        "rules": [rule.model_dump(mode="json") for rule in changed.rules],
        "devices": [device.device_id for device in changed.devices],
        "in_force": changed.in_force,
        "published": published,
    }
    click.echo(orjson.dumps(told))

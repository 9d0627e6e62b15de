"""What people are told, with what to do. Pure: facts in, a sentence out."""

from datetime import datetime

from schemas.alarms import AlarmState
from schemas.devices import Device, RuleKind
from streams.alarms.rules import ALARM_FLOOD, FRAMES_THROW, STATION_SILENT, Bound

_DOES: dict[RuleKind | str, str] = {
    RuleKind.ABOVE: "reads {value}, above {limit}",
    RuleKind.BELOW: "reads {value}, below {limit}",
    RuleKind.RATE: "changes by {value}, more than {limit}",
    RuleKind.WINDOW_ABOVE: "has a {figure} of {value} over {length} s, above {limit}",
    RuleKind.WINDOW_BELOW: "has a {figure} of {value} over {length} s, below {limit}",
    RuleKind.QUALITY_SHARE: "failed its quality tests with {value} of its readings in {length} s, limit {limit}",
    RuleKind.SEQUENCE_GAP: "sent frames between which {value} are missing",
    RuleKind.CLOCK_SKEW: "has a clock that is {value} off, limit {limit}",
    RuleKind.REJECTED_SHARE: "sent readings that cannot be taken: {value}, limit {limit}",
    RuleKind.SPOOL_DROPPING: "has lost {value} at the edge since its last heartbeat",
    RuleKind.SPOOL_DAMAGED: "found its spool damaged and set it aside{figure}",
    RuleKind.SOURCE_FAILED: "has {value} of readings that fail and are tried again{figure}",
    RuleKind.DUPLICATE_DEVICE: "is heard from {value} in turns{figure}",
    FRAMES_THROW: "sends frames on which the stage itself fails{figure}",
    ALARM_FLOOD: "raises alarm after alarm; those that follow stand under this one",
}

_DO: dict[RuleKind | str, str] = {
    RuleKind.ABOVE: "Look at the plot, the neighbouring sensors and the calibration.",
    RuleKind.BELOW: "Look at the plot, the neighbouring sensors and the calibration.",
    RuleKind.RATE: "Look for a loose contact, interference or a spike.",
    RuleKind.QUALITY_SHARE: "`telltale readings show --quality fail` shows which tests failed.",
    RuleKind.SEQUENCE_GAP: "They may still come from its backlog (`telltale edge spool`); acknowledge to give them up.",
    RuleKind.CLOCK_SKEW: "Set its clock (NTP, GPS); its readings carry its time.",
    RuleKind.REJECTED_SHARE: "`telltale rejected list` tells why.",
    RuleKind.SPOOL_DROPPING: "Its spool is full: check its link and its disk (`telltale edge spool`).",
    RuleKind.SPOOL_DAMAGED: "Look at its SD card; `telltale edge spool export` reads what was set aside.",
    RuleKind.SOURCE_FAILED: "Look at the sensor, the command or the file that the source reads.",
    RuleKind.DUPLICATE_DEVICE: "Two machines use its id: give each an id of its own. What both have sent is stored; of "
    "rows of one time the later stands.",
    FRAMES_THROW: "A bug: `telltale rejected list` has the frames, `telltale rejected retry` sends them again.",
    ALARM_FLOOD: "Look for what they have in common: logger, power, line.",
}

STATION_CHANGED = "station_changed"

_COVERED = {
    "device_silent": "not told by itself: the whole device is silent",
    "station_silent": "not told by itself: the whole station is silent",
    "station_may_be_silent": "held back for a moment: its station may be silent as a whole",
    "flood": "not told by itself: it came in a flood of alarms",
}


def message(device: Device, bound: Bound, state: AlarmState, reason: str, value: float, onset: datetime) -> str:  # noqa: PLR0917
    """One or two sentences."""
    who = f"{device.name} {bound.channel}".rstrip()
    if bound.kind == STATION_SILENT:
        who = device.station.name
    silent = bound.kind in (RuleKind.SILENCE, RuleKind.SENSOR_SILENCE, STATION_SILENT)
    if state is AlarmState.CLEARED:
        return _cleared(who, bound, reason, value, silent=silent)
    since = f"{onset:%Y-%m-%d %H:%M:%S} UTC"
    if silent:
        what = f"Nothing heard from {who} since {since}."
    else:
        does = _DOES.get(bound.kind, "{value}")
        said = does.format(
            value=_number(bound, value), limit=_number(bound, bound.limit), figure=bound.figure, length=bound.length_s
        )
        what = f"{who} {said}, since {since}."
    if state is AlarmState.SUPPRESSED:
        return f"{what} It is {_COVERED.get(reason, reason)}."
    if state is AlarmState.LATCHED:
        return f"{what} It is over, and stays until somebody acknowledges it."
    if reason == "chattering":
        what += " It comes and goes, and stays until it has been calm for ten minutes."
    return f"{what} {_silent(bound) if silent else _DO.get(bound.kind, '')}".rstrip()


def _silent(bound: Bound) -> str:
    if bound.kind is RuleKind.SENSOR_SILENCE:
        return "The device itself is heard: check the sensor, its cable and the logger's program."
    if bound.kind == STATION_SILENT:
        return "All its devices are silent: check power and link of the site."
    return "Check its power, its link and `telltale edge spool` on it; what it has measured waits in its spool."


def _cleared(who: str, bound: Bound, reason: str, value: float, *, silent: bool) -> str:
    if reason == "rule_removed":
        return f"{who}: the rule {bound.rule} is no longer configured."
    if reason == STATION_CHANGED:
        return f"{who} has other devices now; those that are silent tell of it anew."
    if silent and reason == "heard_again":
        return f"{who} is heard again after {value:.0f} s."
    return f"{who}: {bound.rule} is over."


def _number(bound: Bound, value: float | None) -> str:
    if value is None:
        return "no limit"
    if bound.unit == "share":
        return f"{100 * value:.0f} %"
    return f"{value:.6g} {bound.unit or ''}".rstrip()

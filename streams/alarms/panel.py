"""The annunciator: conditions in, steps of the life cycle taken, events out. Pure; works on a copy for one step.

Delays, chattering, floods and known causes are judged here, in one place for all kinds of rules. Delays run by the
time that the caller gives: the readings' own for rules on readings, the wall clock for the others.

Chattering: an alarm that is raised for the fifth time in ten minutes stays until its condition has been gone for ten.
Flood: from ten alarms of a device within a minute on, one alarm stands for those that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from schemas.alarms import Action, Alarm, AlarmAction, AlarmState, Severity, alarm_id
from schemas.devices import Device, RuleKind
from streams.alarms.lifecycle import Cause, Phase, move
from streams.alarms.memory import NEVER, AlarmStates, Entry
from streams.alarms.messages import message
from streams.alarms.rules import ALARM_FLOOD, FRAMES_THROW, STATION_SILENT, Bound, Key, Rules, device_source

if TYPE_CHECKING:
    from streams.plan import Plan

CHATTER_RAISES = 5
CHATTER_US = 600_000_000
"""Raised so often within so long is chattering. Ten minutes of calm end it."""

FLOOD_ALARMS = 10
FLOOD_US = 60_000_000
"""So many alarms of one device with onsets within a minute are a flood. It ends when fewer than half of them hold."""

OWN: dict[str, tuple[Severity, float | None, str | None, int]] = {
    ALARM_FLOOD: (Severity.MAJOR, float(FLOOD_ALARMS), "alarms", 0),
    STATION_SILENT: (Severity.CRITICAL, None, "s", 0),
    FRAMES_THROW: (Severity.MAJOR, None, None, 60_000_000),
}
"""Alarms that no rule in a configuration makes: severity, limit, unit, off-delay in µs."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEEP = "keep"  # nothing is known of the station at this step: what is covered stays so

TOLD = frozenset({Phase.RAISED, Phase.ACKNOWLEDGED, Phase.LATCHED})
_SHOWN = {
    Phase.RAISED: AlarmState.RAISED,
    Phase.ACKNOWLEDGED: AlarmState.ACKNOWLEDGED,
    Phase.LATCHED: AlarmState.LATCHED,
    Phase.SHELVED: AlarmState.SHELVED,
}


def instant(time_us: int) -> datetime:
    """As a time that people read; what no calendar has becomes its end."""
    try:
        return EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if time_us > 0 else EPOCH


def shown(entry: Entry) -> AlarmState | None:
    """What people are told of it; None: nothing."""
    if entry.phase is Phase.SUPPRESSED:
        return AlarmState.SUPPRESSED if entry.below in TOLD else None
    return _SHOWN.get(entry.phase)


@dataclass(slots=True)
class Panel:
    """Entries of one device during one step."""

    device: Device
    rules: Rules
    entries: dict[Key, Entry]
    out: list[Alarm]
    replayed: bool = False
    known: frozenset[str] = frozenset()  # alarm ids that stand for real while data is read again
    station_cause: str | None = KEEP  # why a silent device's alarm is not told by itself
    changed: bool = False
    _copied: bool = field(default=False, init=False)

    # -- what is judged --

    def condition(self, bound: Bound, holds: bool, at_us: int, value: float, *, onset_us: int | None = None) -> None:
        """The condition of a rule, as found at a time. `onset_us`: since when, if not since then."""
        entry = self.entries.get(bound.key)
        if entry is None:
            if not holds:
                return
            entry = Entry(*bound.key)
        before = entry
        if holds != entry.condition:
            since = at_us if onset_us is None else onset_us
            fresh = holds and not entry.alarm_id
            entry = replace(entry, condition=holds, since_us=since, value=value if fresh else entry.value)
            if holds:
                entry = self._moved(entry, Cause.HOLDS)
        self._put(before, self._delays(entry, bound, at_us), bound, value)

    def tick(self, bound: Bound, at_us: int) -> None:
        """Time has passed, and the condition is as it was."""
        entry = self.entries.get(bound.key)
        if entry is not None:
            self._put(entry, self._delays(entry, bound, at_us), bound, entry.value)

    def holds(self, key: Key) -> bool:
        """The condition as it was last found."""
        entry = self.entries.get(key)
        return entry is not None and entry.condition

    def bound(self, entry: Entry) -> Bound:
        """The entry's rule; of one that is no longer configured, what is left of it."""
        found = self.rules.bound.get(entry.key)
        if found:
            return found
        severity, limit, unit, off_delay_us = OWN.get(entry.rule, (Severity.MINOR, None, None, 0))
        return Bound(entry.rule, entry.rule, entry.source, severity, limit, unit, off_delay_us=off_delay_us)

    def kind(self, entry: Entry) -> RuleKind | str:
        """Of the entry's rule, also where that is gone."""
        kind = self.bound(entry).kind
        return RuleKind.SILENCE if kind == "device_silent" else kind

    def drop(self, entry: Entry, reason: str) -> None:
        """The rule is no longer configured, or its source is not."""
        if entry.alarm_id:
            self._say(entry, AlarmState.CLEARED, reason, entry.value)
        self._copy().pop(entry.key)

    # -- what people do --

    def act(self, entry: Entry, action: AlarmAction, until_us: int) -> AlarmState:
        """Take an action that fits; the state it leaves."""
        cause = {
            Action.ACKNOWLEDGE: Cause.ACKNOWLEDGE,
            Action.SHELVE: Cause.SHELVE,
            Action.UNSHELVE: Cause.UNSHELVE,
        }.get(action.action)
        bound = self.bound(entry)
        after = self._moved(entry, cause) if cause else entry
        if action.action is Action.SHELVE:
            after = replace(after, until_us=until_us)
        elif action.action is Action.UNSHELVE:
            after = replace(after, until_us=NEVER)
        state = shown(after) or AlarmState.CLEARED
        self._say(after, state, action.action.value, after.value, action=action)
        self._keep(self._over(after) if state is AlarmState.CLEARED else replace(after, step=after.step + 1), bound)
        self.settle()
        return state

    def shelves(self, now_us: int) -> None:
        """Take off the shelf what has been there long enough."""
        for entry in list(self.entries.values()):
            if entry.phase is Phase.SHELVED and entry.until_us <= now_us:
                after = replace(self._moved(entry, Cause.SHELF_OVER), until_us=NEVER)
                self._put(entry, after, self.bound(entry), entry.value, reason="shelf_over")

    def hold(self, entry: Entry, until_us: int) -> None:
        """Held back until then, if no cause is found before."""
        self._copy()[entry.key] = replace(entry, until_us=until_us)

    # -- known causes --

    def settle(self) -> None:
        """Cover what has a known cause, uncover what has none any more."""
        if not self.entries:
            return
        self._flood()
        for entry in list(self.entries.values()):
            if entry.inner not in TOLD:
                if entry.phase is Phase.SUPPRESSED:
                    self._put(entry, self._moved(entry, Cause.RELEASE), self.bound(entry), entry.value)
                continue
            cause = self._known_cause(entry)
            if cause and entry.phase is not Phase.SUPPRESSED:
                after = self._moved(entry, Cause.SUPPRESS)
                self._put(entry, after, self.bound(entry), entry.value, reason=cause)
            elif not cause and entry.phase is Phase.SUPPRESSED:
                after = self._moved(entry, Cause.RELEASE)
                self._put(entry, after, self.bound(entry), entry.value, reason="cause_gone")

    def kept(self, states: AlarmStates) -> AlarmStates:
        """The states with what has become of the entries."""
        return replace(states, live=replace(states.live, entries=self.entries)) if self.changed else states

    def _known_cause(self, entry: Entry) -> str | None:
        kind = self.bound(entry).kind
        if kind is RuleKind.SILENCE:
            if self.station_cause is KEEP:
                return KEEP if entry.phase is Phase.SUPPRESSED else None
            return self.station_cause
        if kind is RuleKind.SENSOR_SILENCE and any(self.holds(bound.key) for bound in self.rules.silence):
            return "device_silent"
        flood = self.entries.get((ALARM_FLOOD, device_source(self.device)))
        if flood and flood.condition and entry.rule != ALARM_FLOOD and entry.onset_us >= flood.since_us:
            return "flood"
        return None

    def _floods(self) -> Iterator[Entry]:
        """Alarms that hold, without those about silence, which have causes of their own."""
        for entry in self.entries.values():
            if entry.alarm_id and entry.condition and entry.rule != ALARM_FLOOD:
                yield entry

    def _flood(self) -> None:
        key = (ALARM_FLOOD, device_source(self.device))
        flood = self.entries.get(key)
        if flood is None and len(self.entries) < FLOOD_ALARMS:
            return
        onsets = sorted(entry.onset_us for entry in self._floods())
        bound = self.bound(Entry(*key))
        if flood is not None and flood.condition:
            if len(onsets) < FLOOD_ALARMS // 2:
                self.condition(bound, False, onsets[-1] if onsets else flood.since_us, len(onsets))
            return
        for first, last in zip(onsets, onsets[FLOOD_ALARMS - 1 :], strict=False):
            if last - first <= FLOOD_US:
                self.condition(bound, True, last + 1, FLOOD_ALARMS)
                return

    # -- steps --

    def _moved(self, entry: Entry, cause: Cause) -> Entry:
        phase, below = move(entry.phase, entry.below, cause)
        return replace(entry, phase=phase, below=below)

    def _delays(self, entry: Entry, bound: Bound, at_us: int) -> Entry:
        if entry.condition:
            if entry.inner is Phase.PENDING and at_us - entry.since_us >= bound.on_delay_us:
                entry = self._raised(self._moved(entry, Cause.DELAY_OVER))
            return entry
        if entry.inner is Phase.PENDING:
            return self._moved(entry, Cause.CALM)
        if entry.inner in TOLD and entry.inner is not Phase.LATCHED:
            calm_us = max(bound.off_delay_us, CHATTER_US) if entry.raises >= CHATTER_RAISES else bound.off_delay_us
            if at_us - entry.since_us >= calm_us:
                return self._moved(entry, Cause.CALM_LATCHED if bound.latched else Cause.CALM)
        return entry

    def _raised(self, entry: Entry) -> Entry:
        """With an identity, unless it goes on under one, and with a count of how often it came."""
        if not entry.alarm_id:
            entry = replace(
                entry,
                alarm_id=alarm_id(entry.rule, entry.source, entry.since_us),
                onset_us=entry.since_us,
                step=0,
            )
        if entry.raises and entry.since_us - entry.raises_since_us <= CHATTER_US:
            return replace(entry, raises=entry.raises + 1)
        return replace(entry, raises=1, raises_since_us=entry.since_us)

    def _put(self, before: Entry, after: Entry, bound: Bound, value: float, *, reason: str = "") -> None:
        """Keep the entry and say what people are to know of the step."""
        if after == before and before.key in self.entries:
            return
        was, now = shown(before), shown(after)
        if after.inner in TOLD and after.phase not in (Phase.SHELVED, Phase.SUPPRESSED) and now is AlarmState.RAISED:
            cause = self._known_cause(after)
            if cause:  # never told, if the cause is known already
                after, reason = self._moved(after, Cause.SUPPRESS), cause
                now = shown(after)
        if now != was:
            if now is not None:
                self._say(after, now, reason or self._reason(after, bound, now), value)
                after = replace(after, step=after.step + 1)
            elif after.alarm_id:
                self._say(after, AlarmState.CLEARED, reason or _OVER.get(bound.kind, "over"), value)
        if now is None and after.alarm_id:
            after = self._over(after)
        self._keep(after, bound)

    def _over(self, entry: Entry) -> Entry:
        return replace(entry, alarm_id="", onset_us=NEVER, step=0)

    def _keep(self, entry: Entry, bound: Bound) -> None:
        entries = self._copy()
        idle = entry.phase is Phase.NORMAL and not entry.condition
        # One that was raised lately is remembered, to see it chatter; the device's silence does not chatter.
        if idle and (entry.raises == 0 or bound.kind in (RuleKind.SILENCE, RuleKind.SENSOR_SILENCE)):
            entries.pop(entry.key, None)
        else:
            entries[entry.key] = entry

    def forget(self, entry: Entry) -> None:
        """It has been calm for long."""
        self._copy().pop(entry.key, None)

    def _copy(self) -> dict[Key, Entry]:
        if not self._copied:
            self.entries, self._copied, self.changed = dict(self.entries), True, True
        return self.entries

    # -- what is said --

    @staticmethod
    def _reason(entry: Entry, bound: Bound, state: AlarmState) -> str:
        if state is AlarmState.RAISED and entry.raises >= CHATTER_RAISES:
            return "chattering"
        if state is AlarmState.LATCHED:
            return "latched"
        return _WHY.get(bound.kind, str(bound.kind))

    def _say(
        self, entry: Entry, state: AlarmState, reason: str, value: float, *, action: AlarmAction | None = None
    ) -> None:
        if entry.alarm_id in self.known:
            return
        bound = self.bound(entry)
        onset = instant(entry.onset_us)
        self.out.append(
            Alarm(
                alarm_id=entry.alarm_id,
                rule=entry.rule,
                source=entry.source,
                device_id=self.device.device_id,
                station_id=self.device.station.station_id,
                severity=bound.severity,
                state=state,
                reason=reason,
                onset=onset,
                value=round(value, 6),
                limit=bound.limit,
                unit=bound.unit,
                message=message(self.device, bound, state, reason, value, onset),
                replayed=self.replayed,
                step=entry.step,
                who=action.who if action else None,
                why=(action.why or None) if action else None,
                until=instant(entry.until_us) if entry.phase is Phase.SHELVED else None,
                below=_SHOWN.get(entry.below) if entry.phase is Phase.SHELVED else None,
            )
        )


_WHY: dict[RuleKind | str, str] = {
    STATION_SILENT: "silent",
    RuleKind.SILENCE: "silent",
    RuleKind.SENSOR_SILENCE: "silent",
}
_OVER: dict[RuleKind | str, str] = {
    STATION_SILENT: "heard_again",
    RuleKind.SILENCE: "heard_again",
    RuleKind.SENSOR_SILENCE: "heard_again",
}


def panel_of(states: AlarmStates, plan: "Plan", out: list[Alarm]) -> Panel:
    """On what stands for real; events go to `out`."""
    return Panel(plan.device, plan.rules, states.live.entries, out)

"""What time alone brings about in a partition: silent devices and stations, delays that end, a backlog that stays.

Judges and remembers when it looked; the clock is asked elsewhere, and what it finds is stored and sent elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from schemas.alarms import Alarm, AlarmState, Severity, alarm_id
from schemas.keys import partition_of
from streams.agents.devices import DeviceTable
from streams.agents.told import Told
from streams.alarms import lost, removed, silence
from streams.alarms.memory import AlarmStates
from streams.alarms.panel import instant
from streams.alarms.rules import DEVICE_SILENT, STAGE_BEHIND, STATION_SILENT, device_source, station_source
from streams.alarms.silence import StationView
from streams.pipeline import Outcome, look
from streams.plan import Plan
from streams.state import State

log = structlog.get_logger()

BEHIND_US_MIN = 30_000_000
"""A backlog is an alarm after so long, or the limit if that is shorter: a restart's is gone by then."""

SETTLE_US_MAX = 15_000_000
"""After opening, or after the broker was away, devices get this long to be heard before silence is judged."""


Unknown = dict[tuple[str, int], bool]
"""Alarms that are said to stand at a step, and of which no state knows; whether they have been ended."""


class Looks:
    """At one partition, from the time it was opened."""

    def __init__(self, number: int, partitions: int, *, devices: DeviceTable, told: Told) -> None:
        self._number = number
        self._partitions = partitions
        self._devices = devices
        self._told = told
        self._is_mine: dict[str, bool] = {}  # by device
        self._mine: dict[str, Plan | None] = {}  # by device; None: remembered, and configured no more
        self._mine_of = -1  # the table's count of changes when they were found
        self._listening_since_us = 0
        self._last_look_us = 0
        self._behind_since_us: int | None = None
        self._told_behind: tuple[str, AlarmState] | None = None
        self._unknown: Unknown = {}

    # -- at devices and stations --

    def began(self, now_us: int, *, every_us: int) -> None:
        """A look is due; after a pause devices get some time to be heard."""
        if now_us - self._last_look_us > 5 * every_us:  # just opened, or the broker was away, or we were frozen
            self._listening_since_us = now_us
        self._last_look_us = now_us

    def at_devices(self, states: Mapping[str, State], now_us: int, *, generation: int) -> list[tuple[State, Outcome]]:
        """The partition's devices whose state has changed. Asked only when all that had arrived is applied."""
        if not self._devices.complete:
            return []  # a station whose devices are not all known would be judged by some of them
        changed = []
        unknown: Unknown = {}
        self._find(states)
        for device_id, plan in self._mine.items():
            try:
                if plan is None:
                    found = self._at_removed(states.get(device_id), device_id, generation, unknown)
                else:
                    found = self._at_device(states, plan, now_us, generation, unknown)
            except Exception:  # our bug, and one device's: the others are looked at
                log.exception("look.threw", device=device_id)
                continue
            if found is not None:
                changed.append(found)
        self._unknown = unknown
        return changed

    def _find(self, states: Mapping[str, State]) -> None:
        """The partition's devices. Asked each second, found anew only when a configuration has changed."""
        changes = self._devices.changes  # before the plans: one that comes meanwhile is found at the next look
        if changes != self._mine_of:
            configured = {plan.device.device_id: plan for plan in self._devices.plans()}
            remembered: dict[str, Plan | None] = dict.fromkeys((*states, *self._told.devices()))
            mine = {name: plan for name, plan in (remembered | configured).items() if self._owns(name)}
            if any(plan is None and name not in self._mine for name, plan in mine.items()):
                self._devices.catch_up()  # another worker may have read its configuration before us
                mine = {name: plan or self._devices.plan(name) for name, plan in mine.items()}
            self._mine, self._mine_of = mine, changes

    def _owns(self, device_id: str) -> bool:
        mine = self._is_mine.get(device_id)
        if mine is None:
            mine = self._is_mine[device_id] = partition_of(device_id, self._partitions) == self._number
        return mine

    def _at_device(
        self,
        states: Mapping[str, State],
        plan: Plan,
        now_us: int,
        generation: int,
        unknown: Unknown,
    ) -> tuple[State, Outcome] | None:
        """One device by the wall clock; None: nothing has changed."""
        device_id, limit_us = plan.device.device_id, plan.silence_limit_us
        state = states.get(device_id)
        since_us = state.heard_us if state and state.heard_us else plan.configured_us
        silent = limit_us is not None and now_us - since_us > limit_us
        leads = self._leads(plan)
        told = self._told.of_device(device_id)
        needs_look = silent or leads or bool(told) or plan.rules.sensor_silence
        if not needs_look and not (state and silence.needs_look(state.alarms, plan)):
            return None
        before = state = state or State(device_id, generation=generation)
        listened = now_us - self._listening_since_us >= min(limit_us or SETTLE_US_MAX, SETTLE_US_MAX)
        station = self._station_view(states, plan, since_us) if silent else None
        state, outcome = look(
            state, plan, expected_us=plan.configured_us, now_us=now_us, judge_silence=listened, station=station
        )
        if listened:
            state = self._at_station(state, plan, now_us, outcome, leads=leads)
            if told:  # what silence makes stand again stands by now
                state = self._own_up(state, told, lambda alarm: lost.lost(alarm, plan), outcome, unknown)
        if outcome.alarms:
            state = _with(state, lost.after_its_end(state.alarms, outcome.alarms, self._told.ended))
        return None if state is before and not outcome.alarms else (state, outcome)

    def _at_removed(
        self, known: State | None, device_id: str, generation: int, unknown: Unknown
    ) -> tuple[State, Outcome] | None:
        """A device that is configured no more; None: nothing has changed."""
        told, outcome = self._told.of_device(device_id), Outcome()
        if known is None and not told:
            return None
        state = known or State(device_id, generation=generation)
        if state.heard_us or state.alarms.live.entries:  # configured again, it is expected from then on
            alarms = removed.without_alarms(state.alarms, device_id, told, outcome.alarms)
            state = replace(state, heard_us=0, alarms=alarms)
        elif told:
            state = self._own_up(state, told, removed.end, outcome, unknown)
        return None if state is known and not outcome.alarms else (state, outcome)

    def _own_up(
        self,
        state: State,
        told: tuple[Alarm, ...],
        end: Callable[[Alarm], Alarm],
        outcome: Outcome,
        unknown: Unknown,
    ) -> State:
        """End what is said to stand and nobody knows of: states that were lost knew it.

        An alarm that has just ended is still said to stand for a moment, until it is read: so two looks must find it.
        """
        for alarm in lost.unknown(state.alarms, told):
            key = alarm.alarm_id, alarm.step
            unknown[key] = key in self._unknown
            if self._unknown.get(key) is False:
                outcome.alarms.append(end(alarm))
        return _with(state, lost.with_steps(state.alarms, told))

    def _leads(self, plan: Plan) -> bool:
        """Whether this device's partition decides on its station's silence."""
        together = self._devices.station(plan.device.station.station_id)
        return len(together) > 1 and together[0].device.device_id == plan.device.device_id

    def _station_view(self, states: Mapping[str, State], plan: Plan, heard_us: int) -> StationView | None:
        """The station of a silent device, if it may be silent as a whole."""
        station_id = plan.device.station.station_id
        together = self._devices.station(station_id)
        if len(together) < 2 or any(other.silence_limit_us is None for other in together):
            return None
        for other in together:  # those that are ours may tell at once that it is not
            known = states.get(other.device.device_id)
            if known and other is not plan and known.heard_us > heard_us + (plan.silence_limit_us or 0) // 2:
                return None
        source = station_source(station_id)
        silent = self._told.standing(STATION_SILENT, source) is not None
        return StationView(silent, self._told.cleared_us(STATION_SILENT, source))

    def _at_station(self, state: State, plan: Plan, now_us: int, outcome: Outcome, *, leads: bool) -> State:
        """Raise and clear the station's alarm; one of a station that this device no longer leads ends."""
        station_id = plan.device.station.station_id
        mine = station_source(station_id)
        sources = {entry.source for entry in state.alarms.live.entries.values() if entry.rule == STATION_SILENT}
        for source in sources - ({mine} if leads else set()):
            state = _with(state, silence.no_longer_leads(state.alarms, plan, source, outcome.alarms))
        standing = self._told.standing(STATION_SILENT, mine)
        if not leads or (standing and standing.device_id != plan.device.device_id):
            return state  # whoever led before ends its own first: both would be one alarm
        together = [other.device for other in self._devices.station(station_id)]
        told = [self._told.standing(DEVICE_SILENT, device_source(device)) for device in together]
        # Its last alarm may have ended because its devices are others now: silence does not begin before it then.
        last = self._told.ended(STATION_SILENT, mine)
        onsets = [round(alarm.onset.timestamp() * 1e6) for alarm in (*told, last) if alarm]
        since_us = max(onsets) if all(told) else None
        return _with(state, silence.station(state.alarms, plan, mine, since_us, now_us, outcome.alarms))

    # -- at the partition's backlog --

    def at_backlog(self, *, caught_up: bool, applied_us: int, now_us: int, limit_us: int) -> Alarm | None:
        """What is to be said of the partition being behind; `applied_us`: when the newest applied was appended."""
        source = f"streams/partition-{self._number}"
        standing = self._told.standing(STAGE_BEHIND, source)
        if caught_up:
            self._behind_since_us = None
            if standing is None:
                return None
            return self._behind(standing.model_copy(update={"step": standing.step + 1}), AlarmState.CLEARED, 0.0)
        if self._behind_since_us is None:
            self._behind_since_us = now_us
        lag_us = now_us - (max(applied_us, 0) or self._behind_since_us)
        if standing or lag_us <= limit_us or now_us - self._behind_since_us < min(limit_us, BEHIND_US_MIN):
            return None
        onset = self._behind_since_us
        alarm = Alarm(
            alarm_id=alarm_id(STAGE_BEHIND, source, onset),
            rule=STAGE_BEHIND,
            source=source,
            device_id=None,
            station_id=None,
            severity=Severity.MAJOR,
            state=AlarmState.RAISED,
            reason="behind",
            onset=instant(onset),
            limit=limit_us / 1e6,
            unit="s",
            message="",
        )
        return self._behind(alarm, AlarmState.RAISED, lag_us / 1e6)

    def _behind(self, alarm: Alarm, state: AlarmState, lag_s: float) -> Alarm | None:
        if (alarm.alarm_id, state) == self._told_behind:
            return None  # said already, and not read back yet
        self._told_behind = (alarm.alarm_id, state)
        raised = state is AlarmState.RAISED
        message = (
            f"Partition {self._number} of the stage is {lag_s:.0f} s behind: its alarms come late and silence is not "
            f"judged until it has caught up. More workers (`telltale streams run`) share the partitions."
            if raised
            else f"Partition {self._number} of the stage has caught up."
        )
        reason = "behind" if raised else "caught_up"
        changes = {"state": state, "value": round(lag_s, 3), "message": message, "reason": reason}
        return alarm.model_copy(update={**changes, "who": None, "why": None, "until": None})


def _with(state: State, alarms: AlarmStates) -> State:
    return state if alarms is state.alarms else replace(state, alarms=alarms)

"""A device's alarms as a time line with a manual clock (seconds after START_US): rows, heartbeats, looks, actions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from core_examples import START_US, US, in_log, instant, make_device, make_frame, make_sensor

from schemas.alarms import Action, ActionAnswer, Alarm, AlarmAction, AlarmActionEvent
from schemas.codec import Codec
from schemas.devices import AlarmRule, Device, Sensor
from schemas.frames import DeviceState
from schemas.records import Heartbeat
from streams.alarms.silence import StationView
from streams.pipeline import Outcome, advance, apply_action, hear_heartbeat, look
from streams.plan import Plan, plan_of
from streams.state import State, from_record, to_record

CODEC = Codec()
HOT = {"name": "hot", "kind": "above", "limit": 30.0}


def rule(**facts: Any) -> AlarmRule:
    return AlarmRule.model_validate(facts)


@dataclass
class Line:
    """One device and its past."""

    device: Device
    state: State = field(default_factory=lambda: State("mast-7"))
    offset: int = 0
    sequence: int = 0
    generation: int = 0

    @property
    def plan(self) -> Plan:
        return plan_of(self.device)

    def frame(
        self,
        seconds: Sequence[float],
        values: Any = None,
        *,
        at_s: float | None = None,
        channels: tuple[str, ...] = ("a",),
        sequence: int | None = None,
    ) -> list[Alarm]:
        """Rows at `seconds`, taken by the broker at `at_s` (by default with the last row)."""
        number = self.sequence if sequence is None else sequence
        appended_us = START_US + round((seconds[-1] if at_s is None else at_s) * US)
        frame = make_frame(seconds, values, channels=channels, sequence=number)
        log = in_log([frame], first=self.offset, appended_us=appended_us)
        self.offset, self.sequence = self.offset + 1, number + 1
        self.state, outcome = advance(self.state, log, self.plan, generation=self.generation)
        self.restart()
        return outcome.alarms

    def look(self, at_s: float, *, station: StationView | None = None) -> list[Alarm]:
        self.state, outcome = look(
            self.state, self.plan, expected_us=START_US, now_us=START_US + round(at_s * US), station=station
        )
        self.restart()
        return outcome.alarms

    def beat(self, at_s: float, **facts: Any) -> list[Alarm]:
        counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 0)
        now = instant(START_US + round(at_s * US))
        said = {"spool_id": "spool", "version": "1", "free_disk_bytes": 1, **counts, **facts}
        beat = Heartbeat(device_id="mast-7", time=now, started=now, **said)
        outcome = Outcome()
        self.offset += 1
        self.state = hear_heartbeat(self.state, beat, self.offset, START_US + round(at_s * US), self.plan, outcome)
        return outcome.alarms

    def act(self, at_s: float, alarm_id: str, action: str, *, until_s: float | None = None) -> ActionAnswer:
        until = None if until_s is None else instant(START_US + round(until_s * US))
        data = AlarmAction(
            alarm_id=alarm_id, device_id="mast-7", action=Action(action), who="anna", why="looking", until=until
        )
        event = AlarmActionEvent(
            id=f"act{self.offset}", source="test", subject=alarm_id, time=datetime.now(UTC), data=data
        )
        self.outcome = Outcome()
        self.offset += 1
        self.state = apply_action(self.state, event, self.offset, START_US + round(at_s * US), self.plan, self.outcome)
        self.restart()
        (answer,) = self.outcome.answers
        return answer

    def restart(self) -> None:
        """A worker may end between any two steps."""
        self.state = from_record(CODEC.decode_frame(DeviceState, CODEC.encode(to_record(self.state))))

    def replay(self) -> None:
        self.generation += 1
        self.sequence = 0


def line_of(*rules: dict[str, Any], sensors: tuple[Sensor, ...] = (), **changes: Any) -> Line:
    """A device with these rules for its sensor `a`."""
    own = make_sensor("a", alarm_rules=[rule(**facts) for facts in rules], windows_s=changes.pop("windows_s", (600,)))
    return Line(make_device(own, *sensors, **changes))


def states(alarms: list[Alarm]) -> list[str]:
    return [alarm.state.value for alarm in alarms]

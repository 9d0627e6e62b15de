"""A batch of one partition through the core: frames, heartbeats and operators' actions to what they bring about.

Knows records and devices' states; commits nothing. A record that is at fault is refused with its reason; a record on
which our code throws is set aside, and in neither case do the others stop.
"""

import hashlib
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from infra.security.keys import Keyring
from schemas.alarms import ActionAnswer, ActionAnswerEvent, Refusal, read_action_or_answer
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.frames import RawFrame
from schemas.records import Heartbeat, Rejected
from schemas.rejection import Rejection, unread
from schemas.topics import ALARM_ACTIONS, HEARTBEATS, READINGS_RAW
from streams.agents.batches import Record, batches, key_of
from streams.agents.devices import DeviceTable
from streams.agents.refusals import Refusals
from streams.agents.signatures import genuine
from streams.fleet import Member, advance_fleet
from streams.pipeline import Outcome, advance, apply_action, hear, hear_heartbeat, threw
from streams.plan import Plan
from streams.state import State
from streams.validation import Arrival, Batch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Worked:
    """What the records of one transaction brought about."""

    outputs: list[tuple[str, Outcome]]
    rejected: list[Rejected]
    readings: list[Record]  # those of `readings.raw` that are genuine
    began_s: float  # time.time()


class Work:
    """On the records of one partition, from the time it was taken over."""

    def __init__(
        self,
        number: int,
        states: dict[str, State],
        *,
        generation: int,
        codec: Codec,
        devices: DeviceTable,
        keyring: Keyring | None,
    ) -> None:
        self.states = states
        self.generation = generation
        self._number = number
        self._codec = codec
        self._devices = devices
        self._keyring = keyring
        self._refusals = Refusals(number)

    def out(self, fresh: Mapping[str, list[Record]]) -> Worked:
        """What they bring about; `states` are the new ones from then on.

        Args:
            fresh: by source topic, in log order.
        """
        began_s = time.time()
        outputs: list[tuple[str, Outcome]] = []
        rejected: list[Rejected] = []
        readings = self._genuine(fresh.get(READINGS_RAW, []), rejected)
        by_offset = _ByOffset(readings)
        by_device = self._arrivals(readings, rejected)
        outputs += self._advance_fleet(by_device)
        for device_id, arrivals in by_device.items():
            plan = self._devices.plan(device_id)
            if plan is None:
                listed = arrivals.arrivals() if isinstance(arrivals, Batch) else arrivals
                rejected += [self._unknown(each, by_offset[each.offset], device_id) for each in listed]
                continue
            outputs += self._advance(device_id, arrivals, plan, rejected, by_offset)
        outputs += self._hear(self._genuine(fresh.get(HEARTBEATS, []), rejected))
        outputs += self._act(fresh.get(ALARM_ACTIONS, []), rejected)
        return Worked(outputs, rejected, readings, began_s)

    def _genuine(self, records: list[Record], rejected: list[Rejected]) -> list[Record]:
        """Those that are what they say; the others are rejected."""
        kept, forged = genuine(self._keyring, records)
        rejected += [self._refusals.of(record, reason, detail) for record, reason, detail in forged]
        return kept

    def _arrivals(self, records: list[Record], rejected: list[Rejected]) -> dict[str, list[Arrival] | Batch]:
        """Frames by device, in log order; what cannot be read is rejected."""
        blocks, left = self._codec.decode_raw([record.value for record in records])
        by_key, others = batches(blocks, records)
        singly: dict[str, list[Arrival]] = {}
        for at in sorted(left + others):
            record = records[at]
            try:
                frame = self._codec.decode_frame(RawFrame, record.value)
            except Unreadable as error:
                rejected.append(self._refusals.unread(record, error))
                continue
            if key_of(record) != frame.device_id:
                detail = f"the record's key is {key_of(record)!r}, the frame says {frame.device_id!r}"
                rejected.append(self._refusals.of(record, Rejection.WRONG_KEY, detail, rows=frame.values.size))
                continue
            singly.setdefault(frame.device_id, []).append(Arrival(frame, record.offset, record.timestamp * 1000))
        by_device: dict[str, list[Arrival] | Batch] = {**singly}
        by_device.update((key.decode(), batch) for key, batch in by_key.items())  # no device is in both
        if any(self._devices.plan(device_id) is None for device_id in by_device):
            self._devices.catch_up()
        return by_device

    def _advance_fleet(self, by_device: dict[str, list[Arrival] | Batch]) -> list[tuple[str, Outcome]]:
        """Devices that can be advanced as one array; they are taken out of `by_device`."""
        members = [
            Member(self._state(device_id), batch, plan)
            for device_id, batch in by_device.items()
            if isinstance(batch, Batch) and (plan := self._devices.plan(device_id)) is not None
        ]
        try:
            done = advance_fleet(members, generation=self.generation)
        except Exception:  # our bug: device by device it is found whose frame it is
            log.exception("fleet.threw", partition=self._number, devices=len(members))
            return []
        outputs = []
        for member, advanced in zip(members, done, strict=True):
            if advanced is not None:
                device_id = member.batch.device_id
                self.states[device_id] = advanced[0]
                del by_device[device_id]
                outputs.append((device_id, advanced[1]))
        return outputs

    def _advance(
        self,
        device_id: str,
        arrivals: list[Arrival] | Batch,
        plan: Plan,
        rejected: list[Rejected],
        by_offset: "_ByOffset",
    ) -> list[tuple[str, Outcome]]:
        """The device's frames through the core; a frame on which our code throws is set aside, the others go on."""
        state = self._state(device_id)
        outcomes: list[Outcome] = []
        try:
            state, outcome = advance(state, arrivals, plan, generation=self.generation)
            outcomes.append(outcome)
        except Exception:  # noqa: BLE001 - whatever it is, it must not stop the others
            for arrival in arrivals.arrivals() if isinstance(arrivals, Batch) else arrivals:
                try:
                    state, outcome = advance(state, [arrival], plan, generation=self.generation)
                    outcomes.append(outcome)
                except Exception as error:
                    digest = hashlib.sha256(traceback.format_exc().encode()).hexdigest()[:12]
                    log.exception("frame.threw", device=device_id, offset=arrival.offset, digest=digest)
                    detail = f"{type(error).__name__}: {error} (traceback {digest})"
                    size = arrival.frame.values.size
                    record = by_offset[arrival.offset]
                    rejected.append(
                        self._refusals.of(record, Rejection.OUR_ERROR, detail, rows=size, device_id=device_id)
                    )
                    what = f"{type(error).__name__}, traceback {digest}"
                    state, outcome = self._tell_of_bug(state, arrival, what, plan)
                    outcomes.append(outcome)
        self.states[device_id] = state
        for outcome in outcomes:
            for refused in outcome.refused:
                frame = refused.arrival.frame
                record = by_offset[refused.arrival.offset]
                rejected.append(
                    self._refusals.of(
                        record,
                        refused.reason,
                        refused.detail,
                        rows=frame.values.size,
                        device_id=device_id,
                        payload=self._codec.encode(frame),
                    )
                )
        return [(device_id, outcome) for outcome in outcomes]

    def _tell_of_bug(self, state: State, arrival: Arrival, what: str, plan: Plan) -> tuple[State, Outcome]:
        """An alarm about a frame that was set aside, unless the bug is in the alarms."""
        outcome = Outcome()
        try:
            return threw(state, arrival, what, plan, outcome, self.generation), outcome
        except Exception:
            log.exception("alarm.threw", device=state.device_id, offset=arrival.offset)
            return state, Outcome()

    def _hear(self, records: Iterable[Record]) -> list[tuple[str, Outcome]]:
        """Heartbeats: the device is alive, and tells of its clock and its spool."""
        outcomes = []
        for record in records:
            device_id = key_of(record)
            plan = self._devices.plan(device_id)
            if plan is None:
                continue  # the sink stores it; there is nothing to judge it by
            state, outcome = self._state(device_id), Outcome()
            appended_us = record.timestamp * 1000
            try:
                beat = self._codec.decode(Heartbeat, record.value)
                state = hear_heartbeat(state, beat, record.offset, appended_us, plan, outcome)
            except Unreadable:  # the sink says so; alive it is
                state = replace(hear(state, appended_us, plan, outcome), heartbeats_position=record.offset)
            except Exception:  # our bug, and one device's: alive it is, and the others go on
                log.exception("heartbeat.threw", device=device_id, offset=record.offset)
                outcome = Outcome()
                state = replace(hear(state, appended_us, plan, outcome), heartbeats_position=record.offset)
            self.states[device_id] = state
            outcomes.append((device_id, outcome))
        return outcomes

    def _act(self, records: Iterable[Record], rejected: list[Rejected]) -> list[tuple[str, Outcome]]:
        """Operators' actions: each is answered."""
        outcomes = []
        for record in records:
            try:
                event = read_action_or_answer(record.value)
            except Unreadable as error:
                rejected.append(self._refusals.of(record, unread(error.reason), error.detail))
                continue
            if isinstance(event, ActionAnswerEvent):
                continue  # our own word
            device_id, outcome = event.data.device_id, Outcome()
            if key_of(record) != device_id:
                detail = f"the record's key is {key_of(record)!r}, the action is about {device_id!r}"
                rejected.append(self._refusals.of(record, Rejection.WRONG_KEY, detail))
                continue
            plan = self._devices.plan(device_id)
            if plan is None:
                self._devices.catch_up()
                plan = self._devices.plan(device_id)
            if plan is None:
                message = f"no device {device_id} is configured"
                outcome.answers.append(ActionAnswer.to(event, message, reason=Refusal.NOT_CONFIGURED))
            else:
                try:
                    self.states[device_id] = apply_action(
                        self._state(device_id), event, record.offset, record.timestamp * 1000, plan, outcome
                    )
                except Exception as error:
                    log.exception("action.threw", device=device_id, offset=record.offset)
                    message = f"{type(error).__name__}: {error}"
                    outcome = Outcome(answers=[ActionAnswer.to(event, message, reason=Refusal.THREW)])
            outcomes.append((device_id, outcome))
        return outcomes

    def _unknown(self, arrival: Arrival, record: Record, device_id: str) -> Rejected:
        detail = f"device {device_id} is not configured; `telltale stations import` makes it known"
        rows = arrival.frame.values.size
        return self._refusals.of(record, Rejection.UNKNOWN_DEVICE, detail, rows=rows, device_id=device_id)

    def _state(self, device_id: str) -> State:
        return self.states.get(device_id) or State(device_id, generation=self.generation)


class _ByOffset:
    """Records of one topic by their offset; made only when something is to be said of one."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._known: dict[int, Record] = {}

    def __getitem__(self, offset: int) -> Record:
        if not self._known:
            self._known = {record.offset: record for record in self._records}
        return self._known[offset]

"""One owned partition: its producer, its devices' states, and one Kafka transaction for each batch.

Everything here blocks and runs in a thread. Outputs, new state and the marked source offsets of a batch become
visible together or not at all. Opening fences the former owner; whatever fails afterwards ends the process, and its
successor goes on from what was committed. Opening order matters: fence first, then read offsets and state.
"""

import hashlib
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from infra.client import connection, reader
from infra.offsets import committed
from schemas.alarms import (
    ActionAnswer,
    ActionAnswerEvent,
    Alarm,
    AlarmActionEvent,
    AlarmState,
    Refusal,
    Severity,
    alarm_event,
    answer_event,
    read_action_or_answer,
)
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.frames import CleanFrame, DeviceState, RawFrame
from schemas.keys import PARTITIONER, partition_of
from schemas.records import Heartbeat, Rejected
from schemas.rejection import Rejection, unread
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    HEARTBEATS,
    MARK,
    READINGS_CLEAN,
    READINGS_RAW,
    READINGS_REJECTED,
    STREAMS_GROUP,
    STREAMS_STATE,
    WINDOWS,
)
from streams.agents.devices import DeviceTable
from streams.agents.told import Told
from streams.alarms import watch
from streams.alarms.panel import alarm_id, instant
from streams.alarms.rules import DEVICE_SILENT, STAGE_BEHIND, STATION_SILENT, device_source, station_source
from streams.alarms.watch import StationView
from streams.pipeline import Outcome, advance, apply_action, hear, hear_heartbeat, look
from streams.plan import Plan
from streams.state import State, from_record, to_record
from streams.validation import Arrival

log = structlog.get_logger()

SOURCES = (READINGS_RAW, HEARTBEATS, ALARM_ACTIONS)

CELLS_MAX = 65_536
"""Readings in one output frame: 1.2 MB at most, far below the topic's limit, and enough to pay for its header."""

BEHIND_US_MIN = 30_000_000
"""A backlog is an alarm after so long, or the limit if that is shorter: a restart's is gone by then."""

SETTLE_US_MAX = 15_000_000
"""After opening, or after the broker was away, devices get this long to be heard before silence is judged."""


class Record(Protocol):
    """A consumed record, as aiokafka gives it."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int  # ms, the broker's append time


@dataclass(slots=True)
class Counts:
    """What the partition has done since it was opened."""

    frames: int = 0
    readings: int = 0
    rejected: int = 0
    windows: int = 0
    alarms: int = 0
    transactions: int = 0


class GapError(RuntimeError):
    """Records between those applied and those delivered exist and did not come: never skip, start again."""


class Ownership:
    """One partition of all source topics, opened by `open`."""

    def __init__(
        self, number: int, partitions: int, *, kafka: str, codec: Codec, devices: DeviceTable, told: Told
    ) -> None:
        self.number = number
        self.counts = Counts()
        self.generation = 0
        self._partitions = partitions
        self._kafka = kafka
        self._codec = codec
        self._devices = devices
        self._told = told
        self._mine: dict[str, bool] = {}  # whether a device is this partition's
        self._applied_us = 0  # when the newest reading applied was appended
        self._behind_since_us: int | None = None
        self._told_behind: tuple[str, AlarmState] | None = None
        self._states: dict[str, State] = {}
        self._next: dict[str, int] = {}
        self._listening_since_us = 0
        self._last_look_us = 0

    def open(self, *, transaction_timeout_s: int) -> None:
        """Fence the former owner, then take over its offsets and state."""
        began = time.monotonic()
        self._timeout_s = transaction_timeout_s
        self._producer = Producer(
            {
                **connection(self._kafka),
                "transactional.id": f"{STREAMS_GROUP}-{self.number}",
                "transaction.timeout.ms": transaction_timeout_s * 1000,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 0,
                "message.max.bytes": 16 << 20,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 256 << 10,
            }
        )
        self._producer.init_transactions(transaction_timeout_s)
        # librdkafka wants a group's metadata; a consumer that never joins gives it, and transactional.id fences.
        consumer = Consumer(reader(self._kafka, group=STREAMS_GROUP))
        try:
            self._group = consumer.consumer_group_metadata()
            self._restore(consumer)
            self._take_over_offsets(consumer)
        finally:
            consumer.close()
        log.info(
            "partition.opened",
            partition=self.number,
            generation=self.generation,
            devices=len(self._states),
            next=self._next,
            seconds=round(time.monotonic() - began, 3),
        )

    def _restore(self, consumer: Consumer) -> None:
        """Every device's last committed state."""
        tp = TopicPartition(STREAMS_STATE, self.number, 0)
        low, _ = consumer.get_watermark_offsets(tp, timeout=self._timeout_s)
        consumer.assign([TopicPartition(STREAMS_STATE, self.number, low)])
        newest: dict[bytes, bytes | None] = {}
        until = time.monotonic() + 10 * self._timeout_s
        while time.monotonic() < until:
            for message in consumer.consume(10_000, timeout=0.1):
                error = message.error()
                if error is None:
                    newest[message.key()] = message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    consumer.unassign()
                    records = (self._codec.decode_frame(DeviceState, v) for v in newest.values() if v is not None)
                    self._states = {record.device_id: from_record(record) for record in records}
                    return
                elif not error.retriable():
                    raise RuntimeError(f"{STREAMS_STATE}/{self.number} cannot be read: {error}")
        raise TimeoutError(f"{STREAMS_STATE}/{self.number} was not read to its end in {10 * self._timeout_s} s")

    def _take_over_offsets(self, consumer: Consumer) -> None:
        """Where to go on, and whether an operator has reset it: an offset without our mark is his."""
        wanted = [TopicPartition(topic, self.number) for topic in SOURCES]
        for found in committed(consumer, wanted):
            low, _ = consumer.get_watermark_offsets(
                TopicPartition(found.topic, self.number), timeout=self._timeout_s, cached=False
            )
            self._next[found.topic] = found.offset if found.offset >= 0 else low
            if found.topic != READINGS_RAW:
                continue
            word, _, generation = (found.metadata or "").partition("/")
            if found.offset < 0:
                self.generation = max((state.generation for state in self._states.values()), default=0)
            elif word == MARK:
                self.generation = int(generation)
            else:
                self.generation = 1 + max((state.generation for state in self._states.values()), default=0)
                log.info("partition.replay", partition=self.number, generation=self.generation, at=found.offset)
                self._transact([], [])

    # -- what happens to a batch --

    def apply(self, records: Sequence[Record]) -> None:
        """One transaction for all of them: `records` of one topic are in log order."""
        fresh = []
        for record in records:
            expected = self._next[record.topic]
            if record.offset < expected:
                continue  # delivered again after a rebalance
            if record.offset > expected:
                self._refuse_a_gap(record, expected)
            self._next[record.topic] = record.offset + 1
            fresh.append(record)
        if not fresh:
            return
        outputs: list[tuple[str, Outcome]] = []
        rejected: list[Rejected] = []
        for device_id, arrivals in self._arrivals(fresh, rejected).items():
            plan = self._devices.plan(device_id)
            if plan is None:
                rejected += [self._whole(arrival, record, device_id) for arrival, record in arrivals]
                continue
            by_offset = {arrival.offset: record for arrival, record in arrivals}
            outputs += self._advance(device_id, [arrival for arrival, _ in arrivals], plan, rejected, by_offset)
        outputs += self._hear(fresh)
        outputs += self._act(fresh, rejected)
        self._applied_us = max([self._applied_us, *(r.timestamp * 1000 for r in fresh if r.topic == READINGS_RAW)])
        self._transact(outputs, rejected)

    def _arrivals(self, records: Iterable[Record], rejected: list[Rejected]) -> dict[str, list[tuple[Arrival, Record]]]:
        """Frames by device, in log order; what cannot be read is rejected."""
        by_device: dict[str, list[tuple[Arrival, Record]]] = {}
        for record in records:
            if record.topic != READINGS_RAW:
                continue
            try:
                frame = self._codec.decode_frame(RawFrame, record.value)
            except Unreadable as error:
                rejected.append(self._rejected(record, _key(record), unread(error.reason), error.detail, 0))
                continue
            if _key(record) != frame.device_id:
                detail = f"the record's key is {_key(record)!r}, the frame says {frame.device_id!r}"
                rejected.append(self._rejected(record, _key(record), Rejection.WRONG_KEY, detail, frame.values.size))
                continue
            arrival = Arrival(frame, record.offset, record.timestamp * 1000)
            by_device.setdefault(frame.device_id, []).append((arrival, record))
        if any(self._devices.plan(device_id) is None for device_id in by_device):
            self._devices.catch_up()
        return by_device

    def _advance(
        self,
        device_id: str,
        arrivals: list[Arrival],
        plan: Plan,
        rejected: list[Rejected],
        by_offset: dict[int, Record],
    ) -> list[tuple[str, Outcome]]:
        """The device's frames through the core; a frame on which our code throws is set aside, the others go on."""
        state = self._state(device_id)
        outcomes: list[Outcome] = []
        try:
            state, outcome = advance(state, arrivals, plan, generation=self.generation)
            outcomes.append(outcome)
        except Exception:  # noqa: BLE001 - whatever it is, it must not stop the others
            for arrival in arrivals:
                try:
                    state, outcome = advance(state, [arrival], plan, generation=self.generation)
                    outcomes.append(outcome)
                except Exception as error:
                    digest = hashlib.sha256(traceback.format_exc().encode()).hexdigest()[:12]
                    log.exception("frame.threw", device=device_id, offset=arrival.offset, digest=digest)
                    detail = f"{type(error).__name__}: {error} (traceback {digest})"
                    size = arrival.frame.values.size
                    record = by_offset[arrival.offset]
                    rejected.append(self._rejected(record, device_id, Rejection.OUR_ERROR, detail, size))
        self._states[device_id] = state
        for outcome in outcomes:
            for refused in outcome.refused:
                frame = refused.arrival.frame
                record = by_offset[refused.arrival.offset]
                part = self._rejected(record, device_id, refused.reason, refused.detail, frame.values.size)
                rejected.append(part.model_copy(update={"payload": self._codec.encode(frame)}))
        self.counts.frames += len(arrivals)
        return [(device_id, outcome) for outcome in outcomes]

    def _hear(self, records: Iterable[Record]) -> list[tuple[str, Outcome]]:
        """Heartbeats: the device is alive, and tells of its clock and its spool."""
        outcomes = []
        for record in records:
            device_id = _key(record)
            plan = self._devices.plan(device_id) if record.topic == HEARTBEATS else None
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
            self._states[device_id] = state
            outcomes.append((device_id, outcome))
        return outcomes

    def _act(self, records: Iterable[Record], rejected: list[Rejected]) -> list[tuple[str, Outcome]]:
        """Operators' actions: each is answered."""
        outcomes = []
        for record in records:
            if record.topic != ALARM_ACTIONS:
                continue
            try:
                event = read_action_or_answer(record.value)
            except Unreadable as error:
                rejected.append(self._rejected(record, _key(record), unread(error.reason), error.detail, 0))
                continue
            if isinstance(event, ActionAnswerEvent):
                continue  # our own word
            device_id, outcome = event.data.device_id, Outcome()
            if _key(record) != device_id:
                detail = f"the record's key is {_key(record)!r}, the action is about {device_id!r}"
                rejected.append(self._rejected(record, _key(record), Rejection.WRONG_KEY, detail, 0))
                continue
            plan = self._devices.plan(device_id)
            if plan is None:
                self._devices.catch_up()
                plan = self._devices.plan(device_id)
            if plan is None:
                outcome.answers.append(_refused(event, Refusal.NOT_CONFIGURED, f"no device {device_id} is configured"))
            else:
                try:
                    self._states[device_id] = apply_action(
                        self._state(device_id), event, record.offset, record.timestamp * 1000, plan, outcome
                    )
                except Exception as error:
                    log.exception("action.threw", device=device_id, offset=record.offset)
                    outcome = Outcome(answers=[_refused(event, Refusal.THREW, f"{type(error).__name__}: {error}")])
            outcomes.append((device_id, outcome))
        return outcomes

    def _state(self, device_id: str) -> State:
        return self._states.get(device_id) or State(device_id, generation=self.generation)

    # -- what time alone brings about --

    def look_for_silence(self, ends: dict[str, int], *, now_us: int, look_every_us: int) -> None:
        """Judge silence and delays, if everything that had arrived by `now_us` is applied.

        Args:
            ends: the end of each source topic's partition, asked from the broker at `now_us`.
        """
        if now_us - self._last_look_us > 5 * look_every_us:  # just opened, or the broker was away, or we were frozen
            self._listening_since_us = now_us
        self._last_look_us = now_us
        # Actions say nothing of silence, and behind the last of them stands a transaction's marker, never a record.
        if any(self._next[topic] < ends.get(topic, 0) for topic in (READINGS_RAW, HEARTBEATS)):
            return
        outcomes = []
        for plan in self._devices.plans():
            device_id = plan.device.device_id
            if not self._is_mine(device_id):
                continue
            try:
                outcome = self._look(plan, now_us)
            except Exception:  # our bug, and one device's: the others are looked at
                log.exception("look.threw", device=device_id)
                continue
            if outcome is not None:
                outcomes.append((device_id, outcome))
        if outcomes:
            self._transact(outcomes, [])

    def _is_mine(self, device_id: str) -> bool:
        mine = self._mine.get(device_id)
        if mine is None:
            mine = self._mine[device_id] = partition_of(device_id, self._partitions) == self.number
        return mine

    def _look(self, plan: Plan, now_us: int) -> Outcome | None:
        """One device by the wall clock; None: nothing has changed."""
        device_id, limit_us = plan.device.device_id, plan.silence_limit_us
        state = self._states.get(device_id)
        since_us = state.heard_us if state and state.heard_us else plan.configured_us
        silent = limit_us is not None and now_us - since_us > limit_us
        leads = self._leads(plan)
        if not (silent or leads or (state and watch.needs_look(state.alarms, plan)) or plan.rules.sensor_silence):
            return None
        before = state = state or self._state(device_id)
        listened = now_us - self._listening_since_us >= min(limit_us or SETTLE_US_MAX, SETTLE_US_MAX)
        station = self._station_view(plan, since_us) if silent else None
        state, outcome = look(
            state, plan, expected_us=plan.configured_us, now_us=now_us, judge_silence=listened, station=station
        )
        state = self._look_at_station(state, plan, now_us, outcome, leads=leads and listened)
        if state is before:
            return None
        self._states[device_id] = state
        return outcome

    def _leads(self, plan: Plan) -> bool:
        """Whether this device's partition decides on its station's silence."""
        together = self._devices.station(plan.device.station.station_id)
        return len(together) > 1 and together[0].device.device_id == plan.device.device_id

    def _station_view(self, plan: Plan, heard_us: int) -> StationView | None:
        """The station of a silent device, if it may be silent as a whole."""
        station_id = plan.device.station.station_id
        together = self._devices.station(station_id)
        if len(together) < 2 or any(other.silence_limit_us is None for other in together):
            return None
        for other in together:  # those that are ours may tell at once that it is not
            known = self._states.get(other.device.device_id)
            if known and other is not plan and known.heard_us > heard_us + (plan.silence_limit_us or 0) // 2:
                return None
        source = station_source(station_id)
        silent = self._told.standing(STATION_SILENT, source) is not None
        return StationView(silent, self._told.cleared_us(STATION_SILENT, source))

    def _look_at_station(self, state: State, plan: Plan, now_us: int, outcome: Outcome, *, leads: bool) -> State:
        """Raise and clear the station's alarm; one of a station that this device no longer leads ends."""
        station_id = plan.device.station.station_id
        mine = station_source(station_id)
        sources = {entry.source for entry in state.alarms.live.entries.values() if entry.rule == STATION_SILENT}
        for source in sources | ({mine} if leads else set()):
            since_us = None
            if source == mine and leads:
                together = [other.device for other in self._devices.station(station_id)]
                told = [self._told.standing(DEVICE_SILENT, device_source(device)) for device in together]
                onsets = [round(alarm.onset.timestamp() * 1e6) for alarm in told if alarm]
                since_us = max(onsets) if len(onsets) == len(together) else None
            states = watch.station(state.alarms, plan, source, since_us, now_us, outcome.alarms)
            state = state if states is state.alarms else replace(state, alarms=states)
        return state

    def look_behind(self, ends: dict[str, int], *, now_us: int, limit_us: int) -> None:
        """The stage's own alarm: what waits for this partition is older than the limit, and stays so for a while."""
        source = f"streams/partition-{self.number}"
        standing = self._told.standing(STAGE_BEHIND, source)
        if self._next[READINGS_RAW] >= ends.get(READINGS_RAW, 0):
            self._behind_since_us = None
            if standing:
                self._tell_behind(standing.model_copy(update={"step": standing.step + 1}), AlarmState.CLEARED, 0.0)
            return
        if self._behind_since_us is None:
            self._behind_since_us = now_us
        oldest_us = max(self._applied_us, 0) or self._behind_since_us
        lag_us = now_us - oldest_us
        if standing or lag_us <= limit_us or now_us - self._behind_since_us < min(limit_us, BEHIND_US_MIN):
            return
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
        self._tell_behind(alarm, AlarmState.RAISED, lag_us / 1e6)

    def _tell_behind(self, alarm: Alarm, state: AlarmState, lag_s: float) -> None:
        if (alarm.alarm_id, state) == self._told_behind:
            return  # said already, and not read back yet
        self._told_behind = (alarm.alarm_id, state)
        raised = state is AlarmState.RAISED
        message = (
            f"Partition {self.number} of the stage is {lag_s:.0f} s behind: its alarms come late and silence is not "
            f"judged until it has caught up. More workers (`telltale streams run`) share the partitions."
            if raised
            else f"Partition {self.number} of the stage has caught up."
        )
        reason = "behind" if raised else "caught_up"
        changes = {"state": state, "value": round(lag_s, 3), "message": message, "reason": reason}
        self._producer.begin_transaction()
        self._produce_alarm(alarm.model_copy(update=changes))
        self._producer.commit_transaction(self._timeout_s)

    # -- the transaction --

    def _transact(self, outcomes: list[tuple[str, Outcome]], rejected: list[Rejected]) -> None:
        """Outputs, touched states and marked offsets, all or nothing. Any failure is the process's end."""
        self._producer.begin_transaction()
        for device_id, outcome in outcomes:
            key = device_id.encode()
            for clean in outcome.clean:
                for part in _parts(clean):
                    self._produce(READINGS_CLEAN, key, self._codec.encode(part))
                self.counts.readings += clean.values.size
            for windows in outcome.windows:
                self._produce(WINDOWS, key, self._codec.encode(windows))
                self.counts.windows += len(windows.channels)
            for alarm in outcome.alarms:
                self._produce_alarm(alarm)
            for answer in outcome.answers:
                said = answer_event(answer, time=datetime.now(UTC), speaker="streams")
                self._produce(ALARM_ACTIONS, key, said.model_dump_json().encode())
                log.info("action", action=answer.action, id=answer.alarm_id, refused=answer.reason)
        for refusal in rejected:
            self._produce(READINGS_REJECTED, (refusal.device_id or "").encode() or None, self._codec.encode(refusal))
        for device_id in {device_id for device_id, _ in outcomes if device_id in self._states}:
            state = self._codec.encode(to_record(self._states[device_id]))
            self._produce(STREAMS_STATE, device_id.encode(), state)
        mark = f"{MARK}/{self.generation}"
        offsets = [TopicPartition(topic, self.number, at, metadata=mark) for topic, at in self._next.items()]
        self._producer.send_offsets_to_transaction(offsets, self._group, self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)
        self.counts.rejected += len(rejected)
        self.counts.transactions += 1

    def _produce(self, topic: str, key: bytes | None, value: bytes) -> None:
        self._produce_to(self.number, topic, key, value)

    def _produce_alarm(self, alarm: Alarm) -> None:
        event = alarm_event(alarm, time=datetime.now(UTC), speaker="streams")
        self._produce_to(-1, ALARMS, alarm.alarm_id.encode(), event.model_dump_json().encode())
        self.counts.alarms += 1
        log.info("alarm", state=alarm.state, rule=alarm.rule, source=alarm.source, id=alarm.alarm_id)

    def _produce_to(self, partition: int, topic: str, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, partition=partition)
            except BufferError:  # librdkafka's queue is full: what is in it goes out meanwhile
                self._producer.poll(0.05)
            else:
                return

    # -- refusals --

    def _whole(self, arrival: Arrival, record: Record, device_id: str) -> Rejected:
        detail = f"device {device_id} is not configured; `telltale stations import` makes it known"
        return self._rejected(record, device_id, Rejection.UNKNOWN_DEVICE, detail, arrival.frame.values.size)

    def _rejected(self, record: Record, device_id: str, reason: str, detail: str, rows: int) -> Rejected:
        return Rejected(
            topic=record.topic,
            partition=self.number,
            offset=record.offset,
            device_id=device_id or None,
            reason=reason,
            detail=detail,
            rows=rows,
            time=datetime.now(UTC),
            payload=record.value or b"",
        )

    def _refuse_a_gap(self, record: Record, expected: int) -> None:
        """Offsets may be missing from the log (a transaction's marker, retention); a record may not be skipped."""
        consumer = Consumer(reader(self._kafka, group=STREAMS_GROUP))
        try:
            consumer.assign([TopicPartition(record.topic, self.number, expected)])
            message: Any = None
            while message is None or (message.error() and message.error().retriable()):
                message = consumer.poll(self._timeout_s)
                if message is None:
                    raise TimeoutError(f"{record.topic}/{self.number} at {expected} is not answered")
            if not message.error() and message.offset() < record.offset:
                raise GapError(
                    f"{record.topic}/{self.number}: expected {expected}, got {record.offset}, {message.offset()} exists"
                )
        finally:
            consumer.close()


def _refused(event: AlarmActionEvent, reason: Refusal, message: str) -> ActionAnswer:
    action = event.data
    return ActionAnswer(
        action_id=event.id,
        alarm_id=action.alarm_id,
        device_id=action.device_id,
        action=action.action,
        reason=reason,
        message=message,
    )


def _key(record: Record) -> str:
    return (record.key or b"").decode(errors="replace")


def _parts(frame: CleanFrame) -> Iterable[CleanFrame]:
    """The frame, cut into records of a bounded size."""
    rows = max(1, CELLS_MAX // max(1, len(frame.channels)))
    if len(frame.times) <= rows:
        return (frame,)
    return (
        replace(
            frame,
            times=frame.times[at : at + rows],
            logged=frame.logged[at : at + rows],
            values=frame.values[at : at + rows],
            quality=frame.quality[at : at + rows],
            tests=frame.tests[at : at + rows],
        )
        for at in range(0, len(frame.times), rows)
    )

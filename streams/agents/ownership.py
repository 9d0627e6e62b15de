"""One owned partition: its producer, its devices' states, and one Kafka transaction for each batch.

Everything here blocks and runs in a thread. Outputs, new state and the marked source offsets of a batch become
visible together or not at all. Opening fences the former owner; whatever fails afterwards ends the process, and its
successor goes on from what was committed. Opening order matters: fence first, then read offsets and state.
"""

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from infra.client import connection, reader
from infra.offsets import Mark, committed, mark_of
from infra.security.keys import Keyring
from infra.telemetry.tracing import Tracing
from schemas.alarms import (
    ActionAnswer,
    ActionAnswerEvent,
    Alarm,
    AlarmActionEvent,
    Refusal,
    alarm_event,
    answer_event,
    read_action_or_answer,
)
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Refused
from schemas.frames import CleanFrame, DeviceState, RawFrame, WindowFrame
from schemas.keys import PARTITIONER
from schemas.records import Heartbeat, Rejected
from schemas.rejection import Rejection, unread
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    HEARTBEATS,
    READINGS_CLEAN,
    READINGS_RAW,
    READINGS_REJECTED,
    STREAMS_GROUP,
    STREAMS_STATE,
    TOPICS,
    WINDOWS,
)
from streams.agents import measured
from streams.agents.batches import Record, batches
from streams.agents.devices import DeviceTable
from streams.agents.looks import Looks
from streams.agents.signatures import genuine
from streams.agents.told import Told
from streams.agents.unpacking import UNPACKED_BYTES_MAX
from streams.fleet import Member, advance_fleet
from streams.pipeline import Outcome, advance, apply_action, hear, hear_heartbeat, threw
from streams.plan import Plan
from streams.state import State, from_record, to_record
from streams.stored import side_by_side
from streams.validation import Arrival, Batch

log = structlog.get_logger()

Headers = tuple[tuple[str, bytes], ...]

SOURCES = (READINGS_RAW, HEARTBEATS, ALARM_ACTIONS)

PENDING_S = 2.0
"""How long offsets may be uncertain after the former owner's transaction has ended; some 20 ms are usual."""

PAYLOAD_BYTES_MAX = TOPICS[READINGS_REJECTED].max_message_bytes - 65_536
"""What is kept of a rejected record: with room for the other fields. A record that packs well may be larger than the
topic takes, and none may end the worker."""
NAME_CHARACTERS_MAX, DETAIL_CHARACTERS_MAX = 1_000, 2_000

CELLS_MAX = 65_536
"""Readings in one output frame: 1.2 MB at most, far below the topic's limit, and enough to pay for its header."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What the records of one transaction brought about."""

    outputs: list[tuple[str, Outcome]]
    rejected: list[Rejected]
    began_s: float  # time.time()
    followed: dict[str, list[bytes]]  # traceparents of frames, by device


class GapError(RuntimeError):
    """Records between those applied and those delivered exist and did not come: never skip, start again."""


class Ownership:
    """One partition of all source topics, opened by `open`."""

    def __init__(
        self,
        number: int,
        partitions: int,
        *,
        kafka: str,
        codec: Codec,
        devices: DeviceTable,
        told: Told,
        keyring: Keyring | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.number = number
        self.generation = 0
        self._kafka = kafka
        self._codec = codec
        self._devices = devices
        self._keyring = keyring
        self._tracing = tracing
        self._looks = Looks(number, partitions, devices=devices, told=told)
        self._applied_us = 0  # when the newest reading applied was appended
        self._states: dict[str, State] = {}
        self._next: dict[str, int] = {}

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
            broken = self._restore(consumer)
            self._take_over_offsets(consumer, broken)
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

    def _restore(self, consumer: Consumer) -> dict[bytes, str]:
        """Every device's last committed state; keys whose record cannot be read, and why."""
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
                    return self._read_states(newest)
                elif not error.retriable():
                    raise RuntimeError(f"{STREAMS_STATE}/{self.number} cannot be read: {error}")
        raise TimeoutError(f"{STREAMS_STATE}/{self.number} was not read to its end in {10 * self._timeout_s} s")

    def _read_states(self, newest: dict[bytes, bytes | None]) -> dict[bytes, str]:
        broken = {}
        for key, value in newest.items():
            if value is None:
                continue
            try:
                state = from_record(self._codec.decode_frame(DeviceState, value))
            except Unreadable as error:
                broken[key] = f"{error.reason}: {error.detail}"
            except Exception as error:  # noqa: BLE001 - columns that do not fit each other
                broken[key] = f"{type(error).__name__}: {error}"
            else:
                self._states[state.device_id] = state
        return broken

    def _take_over_offsets(self, consumer: Consumer, broken: dict[bytes, str]) -> None:
        """Where to go on, and whether an operator has reset it: an offset without our mark is his.

        Raises `Refused` where states are missing or cannot be read: only an operator may begin without them.
        """
        found, pending = self._committed(consumer)
        for topic, tp in found.items():
            low, _ = consumer.get_watermark_offsets(
                TopicPartition(topic, self.number), timeout=self._timeout_s, cached=False
            )
            self._next[topic] = tp.offset if tp.offset >= 0 else low
        marks = {topic: mark_of(tp.metadata) for topic, tp in found.items() if tp.offset >= 0}
        # States that are lost take their generation with them; the marks of the other topics still know it.
        latest = max([0, *(s.generation for s in self._states.values()), *(m.generation for m in marks.values() if m)])
        readings = marks.get(READINGS_RAW)
        if READINGS_RAW in marks and readings is None:
            self.generation = 1 + latest
            log.info(
                "partition.replay", partition=self.number, generation=self.generation, at=found[READINGS_RAW].offset
            )
            self._transact([], [], forgotten=broken)
            return
        self._refuse_lost_states(max([0, *(m.devices or 0 for m in marks.values() if m)]), broken)
        self.generation = readings.generation if readings else latest
        if pending:
            self._transact([], [])  # its end is ours too: then offsets can be asked for again

    def _committed(self, consumer: Consumer) -> tuple[dict[str, TopicPartition], bool]:
        """The offsets by topic, and whether a transaction's offsets are pending that will never end.

        Opening has ended our former owner's transaction, so nothing of this partition should be pending. A broker
        that is killed while it ends one (seen with Kafka 4.3.1) may forget the offsets' part of it: they stay
        pending, and nobody who asks for what is certain gets an answer. What was committed before is an answer all
        the same: states know how far each device was applied, and our next transaction, being the same producer's,
        ends what is pending.
        """
        wanted = [TopicPartition(topic, self.number) for topic in SOURCES]
        try:
            return {tp.topic: tp for tp in committed(consumer, wanted, within_s=PENDING_S)}, False
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise
            log.warning("offsets.pending", partition=self.number)
        plain = Consumer({**reader(self._kafka, group=STREAMS_GROUP), "isolation.level": "read_uncommitted"})
        try:
            return {tp.topic: tp for tp in committed(plain, wanted)}, True
        finally:
            plain.close()

    def _refuse_lost_states(self, devices: int, broken: dict[bytes, str]) -> None:
        where = f"{STREAMS_STATE}, partition {self.number}"
        if broken:
            key, why = next(iter(broken.items()))
            what = (
                f"{where}: the states of {len(broken)} devices cannot be read ({key.decode(errors='replace')}: {why})"
            )
        elif len(self._states) < devices:
            got = len(self._states)
            what = f"{where}: expected the states of {devices} devices, got {got}: the topic was deleted or cut"
        else:
            return
        raise Refused(
            f"{what}. Going on would make windows and alarms of half the data. Stop the workers, compute again what "
            f"{READINGS_RAW} still holds with `telltale replay --from-beginning`, and start them: what stood in these "
            "states (open windows, acknowledged and shelved alarms) begins anew"
        )

    # -- what happens to a batch --

    def work_out(self, records: Sequence[Record]) -> Worked | None:
        """What one transaction is to hold for all of them; None: nothing. `records` of one topic are in log order.

        What has been worked out must be committed before anything else is done here.
        """
        began = time.monotonic()
        fresh: dict[str, list[Record]] = {}
        for topic, some in groupby(records, key=attrgetter("topic")):
            fresh.setdefault(topic, []).extend(self._fresh(topic, list(some)))
        if not any(fresh.values()):
            return None
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
                rejected += [self._whole(each, by_offset[each.offset], device_id) for each in listed]
                continue
            outputs += self._advance(device_id, arrivals, plan, rejected, by_offset)
        outputs += self._hear(self._genuine(fresh.get(HEARTBEATS, []), rejected))
        outputs += self._act(fresh.get(ALARM_ACTIONS, []), rejected)
        if readings:
            self._applied_us = max(self._applied_us, max(record.timestamp for record in readings) * 1000)
        for topic, taken in fresh.items():
            measured.RECORDS.labels(topic).inc(len(taken))
        measured.WORK.observe(time.monotonic() - began)
        return Worked(outputs, rejected, time.time() - (time.monotonic() - began), self._followed(readings))

    def _followed(self, readings: Sequence[Record]) -> dict[str, list[bytes]]:
        """What the edge wants followed. Not even looked for where nobody collects it."""
        found: dict[str, list[bytes]] = {}
        if self._tracing is not None:
            for record in readings:
                if record.traceparent is not None:
                    found.setdefault(_key(record), []).append(record.traceparent)
        return found

    def _genuine(self, records: list[Record], rejected: list[Rejected]) -> list[Record]:
        """Those that are what they say; the others are rejected."""
        kept, forged = genuine(self._keyring, records)
        rejected += [self._rejected(record, _key(record), reason, detail, 0) for record, reason, detail in forged]
        return kept

    def apply(self, records: Sequence[Record]) -> None:
        """One transaction for all of them."""
        worked = self.work_out(records)
        if worked is not None:
            self.commit(worked)

    def commit(self, worked: Worked) -> None:
        """Make it visible, all or nothing."""
        if not worked.followed or self._tracing is None:
            self._transact(worked.outputs, worked.rejected)
            return
        origins = [origin for some in worked.followed.values() for origin in some]
        about = {"partition": self.number, "outputs": len(worked.outputs), "rejected": len(worked.rejected)}
        span = self._tracing.batch("stage.transaction", origins, began_s=worked.began_s, attributes=about)
        self._transact(worked.outputs, worked.rejected, headers=dict.fromkeys(worked.followed, span.headers))
        span.end()

    def _fresh(self, topic: str, records: list[Record]) -> list[Record]:
        """Those that have not been delivered before; none may be missing between them and those."""
        expected = self._next[topic]
        if records[0].offset != expected or records[-1].offset != expected + len(records) - 1:
            fresh = []
            for record in records:
                if record.offset < expected:
                    continue  # delivered again after a rebalance
                if record.offset > expected:
                    self._refuse_a_gap(record, expected)
                expected = record.offset + 1
                fresh.append(record)
            records = fresh
        if records:
            self._next[topic] = records[-1].offset + 1
        return records

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
                rejected.append(self._unread(record, error))
                continue
            if _key(record) != frame.device_id:
                detail = f"the record's key is {_key(record)!r}, the frame says {frame.device_id!r}"
                rejected.append(self._rejected(record, _key(record), Rejection.WRONG_KEY, detail, frame.values.size))
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
            log.exception("fleet.threw", partition=self.number, devices=len(members))
            return []
        outputs = []
        for member, advanced in zip(members, done, strict=True):
            if advanced is not None:
                device_id = member.batch.device_id
                self._states[device_id] = advanced[0]
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
                    rejected.append(self._rejected(record, device_id, Rejection.OUR_ERROR, detail, size))
                    what = f"{type(error).__name__}, traceback {digest}"
                    state, outcome = self._tell_of_bug(state, arrival, what, plan)
                    outcomes.append(outcome)
        self._states[device_id] = state
        for outcome in outcomes:
            for refused in outcome.refused:
                frame = refused.arrival.frame
                record = by_offset[refused.arrival.offset]
                part = self._rejected(record, device_id, refused.reason, refused.detail, frame.values.size)
                rejected.append(part.model_copy(update={"payload": self._codec.encode(frame)[:PAYLOAD_BYTES_MAX]}))
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
            device_id = _key(record)
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
            self._states[device_id] = state
            outcomes.append((device_id, outcome))
        return outcomes

    def _act(self, records: Iterable[Record], rejected: list[Rejected]) -> list[tuple[str, Outcome]]:
        """Operators' actions: each is answered."""
        outcomes = []
        for record in records:
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

    # -- how it stands, from any thread --

    @property
    def devices(self) -> int:
        return len(self._states)

    def left(self, ends: dict[str, int]) -> dict[str, int]:
        """Records of each source topic up to `ends` that are not worked out. Actions are left out: our own answers
        stand among them, and end in a transaction's marker."""
        return {topic: max(0, ends[topic] - self._next[topic]) for topic in (READINGS_RAW, HEARTBEATS) if topic in ends}

    # -- what time alone brings about --

    def look_for_silence(self, ends: dict[str, int], *, now_us: int, look_every_us: int) -> None:
        """Judge silence and delays, if everything that had arrived by `now_us` is applied.

        Args:
            ends: the end of each source topic's partition, asked from the broker at `now_us`.
        """
        # Actions say nothing of silence, and behind the last of them stands a transaction's marker, never a record.
        caught_up = all(self._next[topic] >= ends.get(topic, 0) for topic in (READINGS_RAW, HEARTBEATS))
        self._looks.began(now_us, every_us=look_every_us)
        if not caught_up:
            return
        changed = self._looks.at_devices(self._states, now_us, generation=self.generation)
        if changed:
            self._states.update({state.device_id: state for state, _ in changed})
            self._transact([(state.device_id, outcome) for state, outcome in changed], [])

    def look_behind(self, ends: dict[str, int], *, now_us: int, limit_us: int) -> None:
        """The stage's own alarm: what waits for this partition is older than the limit, and stays so for a while."""
        caught_up = self._next[READINGS_RAW] >= ends.get(READINGS_RAW, 0)
        alarm = self._looks.at_backlog(
            caught_up=caught_up, applied_us=self._applied_us, now_us=now_us, limit_us=limit_us
        )
        if alarm is not None:
            self._producer.begin_transaction()
            self._produce_alarm(alarm)
            self._producer.commit_transaction(self._timeout_s)

    # -- the transaction --

    def _transact(
        self,
        outcomes: list[tuple[str, Outcome]],
        rejected: list[Rejected],
        *,
        forgotten: Iterable[bytes] = (),
        headers: Mapping[str, Headers] | None = None,
    ) -> None:
        """Outputs, touched states and marked offsets, all or nothing. Any failure is the process's end."""
        began = time.monotonic()
        self._producer.begin_transaction()
        parts = [part for _, outcome in outcomes for clean in outcome.clean for part in _parts(clean)]
        closed = [frame for _, outcome in outcomes for frame in outcome.windows]
        sent: tuple[tuple[str, Sequence[CleanFrame | WindowFrame]], ...] = ((READINGS_CLEAN, parts), (WINDOWS, closed))
        for topic, frames in sent:
            for frame, value in zip(frames, self._codec.encode_each(frames), strict=True):
                marks = headers.get(frame.device_id) if headers else None
                self._produce(topic, frame.device_id.encode(), value, marks)
        for device_id, outcome in outcomes:
            key = device_id.encode()
            for alarm in outcome.alarms:
                self._produce_alarm(alarm)
            for answer in outcome.answers:
                said = answer_event(answer, time=datetime.now(UTC), speaker="streams")
                self._produce(ALARM_ACTIONS, key, said.model_dump_json().encode())
                log.info("action", action=answer.action, id=answer.alarm_id, refused=answer.reason)
        for refusal in rejected:
            self._produce(READINGS_REJECTED, (refusal.device_id or "").encode() or None, self._codec.encode(refusal))
        touched = [self._states[name] for name in {name: None for name, _ in outcomes if name in self._states}]
        together, singly = side_by_side(touched)
        for some, columns in together:
            for at, value in zip(some, self._codec.encode_columns(DeviceState, columns), strict=True):
                self._produce(STREAMS_STATE, touched[at].device_id.encode(), value)
        for at in singly:
            state = touched[at]
            self._produce(STREAMS_STATE, state.device_id.encode(), self._codec.encode(to_record(state)))
        for key in forgotten:
            self._produce(STREAMS_STATE, key, None)
        mark = str(Mark(self.generation, len(self._states)))
        offsets = [TopicPartition(topic, self.number, at, metadata=mark) for topic, at in self._next.items()]
        self._producer.send_offsets_to_transaction(offsets, self._group, self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)
        measured.TRANSACTION.observe(time.monotonic() - began)
        measured.COMMITTED.is_now()
        measured.READINGS.inc(sum([part.values.size for part in parts]))
        measured.WINDOWS.inc(sum([len(frame.channels) for frame in closed]))
        for reason, count in Counter(refusal.reason for refusal in rejected).items():
            measured.REJECTED.labels(reason).inc(count)

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        self._produce_to(self.number, topic, key, value, headers)

    def _produce_alarm(self, alarm: Alarm) -> None:
        event = alarm_event(alarm, time=datetime.now(UTC), speaker="streams")
        self._produce_to(-1, ALARMS, alarm.alarm_id.encode(), event.model_dump_json().encode())
        measured.ALARM_EVENTS.labels(alarm.state, alarm.severity).inc()
        log.info("alarm", state=alarm.state, rule=alarm.rule, source=alarm.source, id=alarm.alarm_id)

    def _produce_to(
        self, partition: int, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        marks = None if headers is None else list(headers)
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, partition=partition, headers=marks)
            except BufferError:  # librdkafka's queue is full: what is in it goes out meanwhile
                self._producer.poll(0.05)
            else:
                return

    # -- refusals --

    def _whole(self, arrival: Arrival, record: Record, device_id: str) -> Rejected:
        detail = f"device {device_id} is not configured; `telltale stations import` makes it known"
        return self._rejected(record, device_id, Rejection.UNKNOWN_DEVICE, detail, arrival.frame.values.size)

    def _unread(self, record: Record, error: Unreadable) -> Rejected:
        if record.oversized:
            detail = f"its batch unpacks to more than {UNPACKED_BYTES_MAX} bytes"
            return self._rejected(record, "", Rejection.TOO_LARGE, detail, 0)
        return self._rejected(record, _key(record), unread(error.reason), error.detail, 0)

    def _rejected(self, record: Record, device_id: str, reason: str, detail: str, rows: int) -> Rejected:
        return Rejected(
            topic=record.topic,
            partition=self.number,
            offset=record.offset,
            device_id=device_id[:NAME_CHARACTERS_MAX] or None,
            reason=reason,
            detail=detail[:DETAIL_CHARACTERS_MAX],
            rows=rows,
            time=datetime.now(UTC),
            payload=(record.value or b"")[:PAYLOAD_BYTES_MAX],
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


class _ByOffset:
    """Records of one topic by their offset; made only when something is to be said of one."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._known: dict[int, Record] = {}

    def __getitem__(self, offset: int) -> Record:
        if not self._known:
            self._known = {record.offset: record for record in self._records}
        return self._known[offset]


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

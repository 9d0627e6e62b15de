"""What people do about alarms: an action goes to `alarm.actions`, the stage answers there. Knows topics, not the stage.

Whoever acts names an alarm; its device, and with it the partition that decides, is looked up in `alarms`. Alarms that
the stage does not answer for are acted on by their next event.
"""

import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from dashboard.alarms import tail
from infra.acted import acted, end_again
from infra.caller import caller
from infra.client import connection, reader
from infra.offsets import ANSWER_S_MAX, span
from infra.telling import tell_all
from infra.told_alarms import last, told
from schemas.alarms import (
    STANDING,
    Action,
    ActionAnswer,
    ActionAnswerEvent,
    AlarmAction,
    AlarmActionEvent,
    AlarmEvent,
    is_answered_by_stage,
    read_action_or_answer,
    supersedes,
)
from schemas.columnar import Unreadable
from schemas.errors import Refused, Unavailable
from schemas.keys import PARTITIONER, partition_of
from schemas.topics import ALARM_ACTIONS

STAGE_S_MAX = 15.0
"""A worker answers in some milliseconds, and after a rebalance in some seconds."""

CLOCKS_APART = timedelta(minutes=10)
"""Between whoever writes events and whoever acts on them, at most: events are looked for by their time."""

CLIENT = "telltale-acting"

ID_MIN = 4  # characters of an alarm id that are enough, if no other begins so


def newest(kafka: str) -> dict[str, AlarmEvent]:
    """The newest event of every alarm that the topic still knows. Raises `Unavailable`."""
    return last(tail(kafka, from_beginning=True, follow=False))


def standing(kafka: str) -> list[AlarmEvent]:
    """Alarms that are not over, worst first, then oldest. Raises `Unavailable`."""
    order = ("critical", "major", "minor", "warning")
    found = [event for event in newest(kafka).values() if event.data.state in STANDING]
    return sorted(found, key=lambda event: (order.index(event.data.severity), event.data.onset))


def act(
    kafka: str, alarm_id: str, action: Action, *, reason: str, until: datetime | None, who: str | None = None
) -> ActionAnswer:
    """Do it, and wait for the stage's answer. `who`: by default the account at this shell. Raises `Refused`,
    `Unavailable`."""
    return act_on(kafka, _named(newest(kafka), alarm_id), action, reason=reason, until=until, who=who)


def act_on(
    kafka: str, event: AlarmEvent, action: Action, *, reason: str, until: datetime | None, who: str | None = None
) -> ActionAnswer:
    """`act`, on an alarm whose last event is known already."""
    speaker, who = ("dashboard", who) if who else ("cli", f"{caller()}@{socket.gethostname()}")
    sent = action_event(event, action, speaker=speaker, who=who, reason=reason, until=until)
    if sent is not None:
        return _sent_and_answered(kafka, sent)
    [answer] = act_at_once(kafka, [event], action, who=who, reason=reason, until=until)
    return answer


def action_event(
    event: AlarmEvent, action: Action, *, speaker: str, who: str, reason: str, until: datetime | None
) -> AlarmActionEvent | None:
    """What is sent to the stage; None: the stage does not answer for this alarm."""
    device_id = event.data.device_id
    if device_id is None or not is_answered_by_stage(event):
        return None
    alarm_id = event.data.alarm_id
    return AlarmActionEvent(
        id=uuid.uuid4().hex,
        source=f"telltale/{speaker}",
        subject=alarm_id,
        time=datetime.now(UTC),
        data=AlarmAction(alarm_id=alarm_id, device_id=device_id, action=action, who=who, why=reason, until=until),
    )


def act_at_once(
    kafka: str, events: Sequence[AlarmEvent], action: Action, *, who: str, reason: str, until: datetime | None
) -> list[ActionAnswer]:
    """An action on alarms that the stage does not answer for, of each its last event as far as it is known here.

    Raises `Unavailable`.
    """
    now = datetime.now(UTC)
    ids = [event.data.alarm_id for event in events]
    since = min([now, *(event.time for event in events)]) - CLOCKS_APART
    known = last(told(kafka, ids, since=since))
    done = [
        acted(
            known.get(event.data.alarm_id, event),
            action,
            action_id=uuid.uuid4().hex,
            who=who,
            reason=reason,
            until=until,
            now=now,
        )
        for event in events
    ]
    if sent := [each.event for each in done if each.event is not None]:
        tell_all(kafka, sent, client_id=CLIENT)
        with suppress(Unavailable):  # it is done
            _end_again(kafka, sent, now - CLOCKS_APART)
    return [each.answer for each in done]


def _end_again(kafka: str, sent: Sequence[AlarmEvent], since: datetime) -> None:
    """Alarms that their keepers ended just before our event came behind it would seem to stand: their end is told once
    more."""
    ours, ended = {event.id for event in sent}, []
    known: dict[str, AlarmEvent] = {}
    for event in told(kafka, [event.data.alarm_id for event in sent], since=since):
        before = known.get(event.data.alarm_id)
        end = end_again(event, before) if event.id in ours else None
        if end is not None:
            ended.append(end)
        elif before is None or supersedes(event, before):
            known[event.data.alarm_id] = event
    if ended:
        tell_all(kafka, ended, client_id=CLIENT)


def shelf_end(length: str) -> datetime:
    """The end of a shelf of a length such as 30m, 8h or 2d, from now on. Raises `Refused`."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    number, unit = length[:-1], length[-1:]
    if unit not in units or not number.isdigit() or not 0 < int(number) <= 10_000:
        raise Refused(f"--for {length}: say a length such as 30m, 8h or 2d")
    return datetime.now(UTC) + timedelta(**{units[unit]: int(number)})


def _named(alarms: dict[str, AlarmEvent], alarm_id: str) -> AlarmEvent:
    """The alarm of an id, or of the beginning of one."""
    if alarm_id in alarms:
        return alarms[alarm_id]
    meant = [name for name in alarms if name.startswith(alarm_id)] if len(alarm_id) >= ID_MIN else []
    if len(meant) == 1:
        return alarms[meant[0]]
    if meant:
        raise Refused(f"{len(meant)} alarms begin with {alarm_id}: {', '.join(sorted(meant)[:4])}")
    raise Refused(f"no alarm {alarm_id} is known; `telltale alarms list` shows those that stand")


def _sent_and_answered(kafka: str, event: AlarmActionEvent) -> ActionAnswer:
    consumer = Consumer(reader(kafka, group="telltale-alarms-act"))
    try:
        topic = consumer.list_topics(ALARM_ACTIONS, timeout=ANSWER_S_MAX).topics[ALARM_ACTIONS]
        if topic.error is not None:
            raise Unavailable(f"the broker has no topic {ALARM_ACTIONS}; make it with: telltale topics provision")
        number = partition_of(event.data.device_id, len(topic.partitions))
        _, end = span(consumer, ALARM_ACTIONS, number)
        consumer.assign([TopicPartition(ALARM_ACTIONS, number, end)])
        _send(kafka, event, number)
        for answer in _answers(consumer):
            if answer.data.action_id == event.id:
                return answer.data
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()
    raise Unavailable(
        f"the stage did not answer in {STAGE_S_MAX:.0f} s; the action waits in {ALARM_ACTIONS} for a worker "
        f"(telltale streams run)"
    )


def _send(kafka: str, event: AlarmActionEvent, number: int) -> None:
    failures: list[KafkaError] = []
    producer = Producer(
        {
            **connection(kafka),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "linger.ms": 0,
            "message.timeout.ms": round(1000 * ANSWER_S_MAX),
        }
    )
    producer.produce(
        ALARM_ACTIONS,
        key=event.data.device_id.encode(),
        value=event.model_dump_json().encode(),
        partition=number,
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
    if producer.flush(ANSWER_S_MAX) or failures:
        raise Unavailable(f"kafka at {kafka} did not take the action: {failures[0] if failures else 'no answer'}")


def _answers(consumer: Consumer) -> Iterator[ActionAnswerEvent]:
    until = time.monotonic() + STAGE_S_MAX
    while time.monotonic() < until:
        message: Message | None = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        try:
            event = read_action_or_answer(message.value())
        except Unreadable:  # somebody else's record
            continue
        if isinstance(event, ActionAnswerEvent):
            yield event

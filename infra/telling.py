"""Brings alarm events of services to the topic `alarms`. Knows the broker and the event; knows no rule.

The stream stage tells its alarms inside its transactions; everybody else tells through here: `Teller` where a loop must
never wait, `tell_all` where the caller keeps what could not be told.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from infra.client import connection
from schemas.alarms import Alarm, AlarmEvent, alarm_event
from schemas.errors import Unavailable
from schemas.keys import PARTITIONER
from schemas.topics import ALARMS

log = structlog.get_logger(__name__)

TELL_S_MAX = 10.0
"""How long the broker may take for an alarm. Above an election of a new leader; below a person's patience."""


def producer(address: str, *, client_id: str, within_s: float = TELL_S_MAX) -> Producer:
    """A producer of alarm events, which neither loses nor repeats what it is given."""
    return Producer(
        {
            **connection(address),
            "client.id": client_id,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "delivery.timeout.ms": int(1000 * within_s),
        }
    )


def is_fatal(error: KafkaError) -> bool:
    """Whether the producer that says so takes nothing any more, ever: the broker has lost what it had acknowledged (a
    log cut short, another leader without it). A new one does."""
    return bool(error.fatal()) or error.code() == KafkaError._FATAL


def tell_all(address: str, events: Sequence[AlarmEvent], *, client_id: str, within_s: float = TELL_S_MAX) -> None:
    """Brings events to `alarms`; waits for it. Raises `Unavailable` unless all have arrived."""
    failed: list[Any] = []

    def note(error: Any, _: object) -> None:
        if error is not None:
            failed.append(error)

    try:
        one = producer(address, client_id=client_id, within_s=within_s)
        for event in events:
            _produce(one, event, note)
        left = one.flush(within_s + 1)
    except (KafkaException, BufferError) as error:
        raise Unavailable(f"Kafka: {error}") from None
    if failed or left:
        raise Unavailable(f"Kafka: {failed[0].str() if failed else 'no answer'}")


def _produce(one: Producer, event: AlarmEvent, heard: Callable[[Any, Any], None]) -> None:
    one.produce(ALARMS, key=event.data.alarm_id.encode(), value=event.model_dump_json().encode(), on_delivery=heard)


class Teller:
    """Brings alarm events to the topic, in order, as soon as the broker lets it. Never waits but in `finish`."""

    def __init__(self, make: Callable[[], Producer], *, speaker: str) -> None:
        self._make, self._speaker = make, speaker
        self._producer: Producer | None = None
        self._untold: deque[AlarmEvent] = deque()
        self._sent: AlarmEvent | None = None

    def tell(self, alarm: Alarm) -> None:
        """One step in an alarm's life."""
        log.warning("alarm", state=alarm.state, rule=alarm.rule, source=alarm.source, id=alarm.alarm_id)
        self._untold.append(alarm_event(alarm, time=datetime.now(UTC), speaker=self._speaker))
        self.turn()

    def turn(self) -> None:
        """To be called now and then: sees what has arrived, sends what comes next."""
        if self._producer is not None:
            self._producer.poll(0)
        if not self._untold or self._sent is not None:
            return
        if self._producer is None:
            self._producer = self._make()
        event = self._untold[0]
        try:
            _produce(self._producer, event, self._heard)
        except (BufferError, KafkaException) as error:
            log.info("alarm_not_told", detail=str(error))
            if isinstance(error, KafkaException) and is_fatal(error.args[0]):
                self._producer = None
        else:
            self._sent = event

    def finish(self, within_s: float) -> None:
        """Before the process ends: as much as the broker takes in that time."""
        for _ in range(len(self._untold)):
            self.turn()
            if self._producer is not None:
                self._producer.flush(within_s)

    def _heard(self, error: Any, _: Any) -> None:
        self._sent = None
        if error is None:
            self._untold.popleft()
        else:  # the next turn tries again
            log.info("alarm_not_told", detail=str(error))
            if is_fatal(error):
                self._producer = None

"""Producers that have told us that they take nothing any more: what they had is told by another one."""

from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.telling import Teller
from schemas.alarms import Alarm, AlarmState, Severity
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.rejection import Rejection
from sinks.timescale.batch import Entry, Part, Refusal
from sinks.timescale.rejects import Rejects


class Client:
    """As librdkafka: the first message meets an error for good, those behind it are not even taken."""

    def __init__(self, *, is_well):
        self.is_well, self._is_dead, self._reports, self.taken = is_well, False, [], 0

    def produce(self, _topic, *, on_delivery, **_):
        if self._is_dead:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        error = None if self.is_well else KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "lost", fatal=True)
        self._is_dead = not self.is_well
        self.taken += self.is_well
        self._reports.append((on_delivery, error))

    def poll(self, _):
        while self._reports:
            heard, error = self._reports.pop(0)
            heard(error, None)

    def flush(self, _):
        self.poll(0)
        return 0


@pytest.fixture
def clients():
    return [Client(is_well=False), Client(is_well=True)]


def test_records_are_rejected_by_another_producer_when_one_is_lost_for_good(clients):
    left = iter(clients)
    rejects = Rejects(lambda: next(left), codec=Codec())
    refusal = Refusal(Rejection.TOO_LARGE, "too large")
    entries = [Entry(Part("heartbeats", 0), offset, None, b"x", 0, refusal) for offset in range(3)]
    with pytest.raises(Unavailable, match="Fatal error"):
        rejects.tell(entries)
    assert rejects.tell(entries) == clients[1].taken == 3


def test_alarms_are_told_by_another_producer_when_one_is_lost_for_good(clients):
    left = iter(clients)
    teller = Teller(lambda: next(left), speaker="sink")
    teller.tell(
        Alarm(
            alarm_id="1",
            rule="sink_waiting",
            source="sink/timescale/a",
            device_id=None,
            station_id=None,
            severity=Severity.MAJOR,
            state=AlarmState.RAISED,
            reason="away",
            onset=datetime.now(UTC),
            message="Waits.",
        )
    )
    teller.finish(1)
    teller.turn()
    teller.finish(1)
    assert clients[1].taken == 1
    assert not teller._untold

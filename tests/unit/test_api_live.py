"""The feed of live events without a broker: who hears what, who is let go, what a position is."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api.events import Event, Kind, read, written
from dashboard.api.live import Client, Feed
from dashboard.web.problems import Problem
from schemas.topics import ALARMS, READINGS_CLEAN, WINDOWS

ALARM = b'{"data": {"device_id": "mast-7"}}'
NO_ALARMS = (b"{}", b"[]", b"1", b"null", b'{"data": null}', b'{"data": {}}', b'{"data": {"device_id": ["mast-7"]}}')
EVERYTHING = frozenset(Kind)


@dataclass(frozen=True)
class Record:
    """What the feed asks of a Kafka message."""

    at: int
    device: str = "mast-7"
    said: bytes = ALARM

    def topic(self) -> str:
        return ALARMS

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"alarm"

    def value(self) -> bytes:
        return self.said.replace(b"mast-7", self.device.encode())


def feed(queue_max: int = 10) -> Feed:
    """One whose consumer runs, but brings nothing by itself."""
    one = Feed("127.0.0.1:1", queue_max=queue_max)
    one._positions = {(ALARMS, 0): 0, (READINGS_CLEAN, 0): 0}
    one._stop = threading.Event()
    return one


def deliver(one: Feed, *records: Record, since: int | None = None) -> None:
    """As the consumer's thread does; `since` is the round whose wishes it knew."""
    wanted = one._wanted
    events = one._events(list(records), wanted) if since is None else []
    assert one._stop is not None
    one._deliver(list(records), events, wanted.round if since is None else since, one._stop)


def offsets(client: Client) -> list[int]:
    return [event.offset for event in client.take()]


def run(work: Any) -> None:
    asyncio.run(work)


def test_each_hears_what_it_wants_and_positions_move_on() -> None:
    async def work() -> None:
        one = feed()
        here, _ = await one.join(EVERYTHING, frozenset({"mast-7"}))
        everything, begins = await one.join(EVERYTHING, None)
        deliver(one, Record(0), Record(1, "mast-8"))
        assert (offsets(here), offsets(everything)) == ([0], [0, 1])
        assert (begins[ALARMS, 0], one.position(everything)[ALARMS, 0]) == (0, 2)

    run(work())


def test_who_joins_while_records_are_looked_through_misses_none() -> None:
    async def work() -> None:
        one = feed()
        before = one._wanted.round
        client, begins = await one.join(EVERYTHING, frozenset({"mast-7"}))
        deliver(one, Record(5), since=before)
        assert (begins[ALARMS, 0], offsets(client)) == (0, [5])

    run(work())


@pytest.mark.parametrize("said", NO_ALARMS)
def test_somebody_elses_record_among_the_alarms_keeps_nobody_from_the_next(said: bytes) -> None:
    async def work() -> None:
        one = feed()
        client, _ = await one.join(EVERYTHING, frozenset({"mast-7"}))
        deliver(one, Record(0), Record(1, said=said), Record(2))
        assert (offsets(client), client.let_go) == ([0, 2], None)

    run(work())


def test_who_does_not_read_is_let_go_and_others_go_on() -> None:
    async def work() -> None:
        one = feed(queue_max=2)
        slow, _ = await one.join(EVERYTHING, None)
        quick, _ = await one.join(EVERYTHING, None)
        heard = []
        for at in range(5):
            deliver(one, Record(at))
            heard += offsets(quick)
        assert (heard, slow.let_go is not None, quick.let_go) == ([0, 1, 2, 3, 4], True, None)
        assert offsets(slow) == [0, 1]  # what it has is still in order

    run(work())


def test_a_broken_consumer_lets_all_go() -> None:
    async def work() -> None:
        one = feed()
        client, _ = await one.join(EVERYTHING, None)
        assert one._stop is not None
        one._failed("the broker is away", one._stop)
        assert (client.let_go, one._stop) == ("the broker is away", None)

    run(work())


def test_a_client_wants_kinds_and_devices() -> None:
    client = Client(frozenset({Kind.ALARMS}), frozenset({"mast-7"}), 10)
    event = Event((ALARMS, 0), 0, Kind.ALARMS, "mast-7", b"{}")
    assert client.wants(event)
    assert not client.wants(Event((ALARMS, 0), 0, Kind.ALARMS, None, b"{}"))
    assert not client.wants(Event((WINDOWS, 0), 0, Kind.WINDOWS, "mast-7", b"{}"))


POSITIONS = st.dictionaries(
    st.tuples(st.sampled_from([ALARMS, READINGS_CLEAN, WINDOWS]), st.integers(0, 999)),
    st.integers(0, 2**62),
    max_size=9,
)


@given(POSITIONS)
def test_a_position_comes_back(positions: dict[tuple[str, int], int]) -> None:
    assert read(written(positions)) == positions


@given(st.text(max_size=40))
def test_whatever_is_said_to_be_a_position_is_read_or_refused(text: str) -> None:
    try:
        read(text)
    except Problem as problem:
        assert problem.status == 422  # noqa: PT017 - either is right

"""The sink struck at chosen moments of a transaction: each committed reading is one row, whatever dies and when.

The line to the database is watched, so that the blow falls where it should and not where chance puts it.
"""

import re
import signal
import threading

import pytest
from fix_sink import DEVICES, clean_frame, settled, until

from schemas.topics import READINGS_CLEAN, SINK_GROUP

pytestmark = [pytest.mark.integration, pytest.mark.fault]

SYNC = b"S\0\0\0\4"  # ends what a client asks of the server, which then answers
ROWS = 300  # of two channels and six devices: enough for COPY on each partition


@pytest.fixture
def device_partitions():
    return 4


def send(clean, round_):
    clean.send(*(clean_frame(device, round_ * ROWS, ROWS) for device in DEVICES))


class Strike:
    """Lies in wait in the transaction that copies readings, for one of its moments."""

    def __init__(self, moment, blow):
        self._moment, self._blow = moment, blow
        self._copying = False
        self.struck = threading.Event()

    def __call__(self, up, piece):
        if self.struck.is_set():
            return piece
        self._copying |= up and b"COPY readings" in piece
        if not self._copying or self._moment != self._now(up, piece):
            return piece
        self.struck.set()
        return self._blow(piece)

    def _now(self, up, piece):
        if up and b"COMMIT" in piece:
            return "before commit"
        if not up and b"COMMIT" in piece:
            return "after commit"
        return "in mid copy" if up and len(piece) > 1_000 else None


def test_sink_killed_at_any_moment_loses_and_repeats_nothing(clean, stored, line, start_sink, book):
    sink = start_sink(dsn=line.dsn).working()
    for round_, moment in enumerate(("before commit", "after commit", "in mid copy")):

        def kill(piece, sink=sink, moment=moment):
            sink.kill()
            return piece[: len(piece) // 2] if moment == "in mid copy" else None

        line.moment = Strike(moment, kill)
        send(clean, round_)
        assert line.moment.struck.wait(30), moment
        sink = start_sink(dsn=line.dsn).working()
        settled(stored, clean)
    assert not sink.ended
    book.tell("sink killed at chosen moments", "before COMMIT, after it, in mid COPY", accepted=len(clean.expected))


def test_commit_whose_answer_is_lost_is_not_done_twice(clean, stored, line, start_sink, book):
    sink = start_sink(dsn=line.dsn).working()
    line.moment = Strike("after commit", lambda _: None)
    send(clean, 0)
    settled(stored, clean)
    assert line.moment.struck.is_set()
    send(clean, 1)
    settled(stored, clean)
    until(lambda: "neighbour_back" in sink.said(), what="the sink goes on")
    assert "fenced" not in sink.said()  # it has recognised its own work
    assert not sink.ended
    book.tell("commit reply lost", "line cut between COMMIT and its answer", accepted=len(clean.expected))


def test_frozen_owner_is_refused_by_the_fence(clean, stored, line, start_sink, book):
    zombie = start_sink(dsn=line.dsn)
    held, go, refused = threading.Event(), threading.Event(), threading.Event()
    asked = b""

    def freeze_before_it_advances(up, piece):
        nonlocal asked
        if up and b"idle_in_transaction_session_timeout" in piece:
            piece = piece.replace(b"10s", b"60s")  # the fence must do it, not the clock
        if up and armed.is_set() and not held.is_set() and (asked or b"UPDATE sink_offsets" in piece):
            # The whole request, to its Sync: to half of one, left by a zombie that was stopped in between, the server
            # would answer nothing.
            asked += piece
            if not asked.endswith(SYNC):
                return b""
            zombie.send(signal.SIGSTOP)
            held.set()
            go.wait(60)
            return asked
        if not up and go.is_set() and b"UPDATE 0" in piece:
            refused.set()
        return piece

    armed = threading.Event()
    line.moment = freeze_before_it_advances
    zombie.working()
    start_sink().working()
    until(lambda: len(stored.rows("SELECT DISTINCT owner FROM sink_offsets")) == 2, what="both own partitions")
    armed.set()
    send(clean, 0)
    assert held.wait(30)
    settled(stored, clean)  # by the successor, which has taken the zombie's partitions over
    go.set()
    assert refused.wait(30)
    before = len(zombie.said())
    zombie.send(signal.SIGCONT)
    # The refusal was on the wire. Woken, it hears of that first, or of the group, which has counted it out.
    until(lambda: re.search(r"event=(fenced|unassigned)", zombie.said()[before:]), what="the zombie gives up")
    send(clean, 1)
    settled(stored, clean)
    assert not zombie.ended
    book.tell(
        "sink frozen past its session and woken",
        "SIGSTOP before its position moves; a successor stores; the zombie's transaction is refused",
        accepted=len(clean.expected),
    )


def test_owner_frozen_in_mid_copy_does_not_hold_its_successor(clean, stored, line, start_sink):
    zombie = start_sink(dsn=line.dsn).working()

    def freeze(piece):
        zombie.send(signal.SIGSTOP)
        return piece[: len(piece) // 2]

    line.moment = Strike("in mid copy", freeze)
    send(clean, 0)
    assert line.moment.struck.wait(30)
    start_sink()
    settled(stored, clean)
    zombie.send(signal.SIGCONT)
    send(clean, 1)
    settled(stored, clean)
    assert not zombie.ended, zombie.said()[-6000:]


def test_rebalance_storm_loses_and_repeats_nothing(clean, stored, cluster, start_sink):
    from confluent_kafka import Consumer

    sink = start_sink(TELLTALE_SINK_ROWS_MAX="500").working()
    for round_ in range(4):
        guest = Consumer(
            {
                "bootstrap.servers": cluster,
                "group.id": SINK_GROUP,
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
            }
        )
        given = threading.Event()
        guest.subscribe([READINGS_CLEAN], on_assign=lambda consumer, _, given=given: (given.set(), consumer.assign([])))
        send(clean, 2 * round_)
        until(lambda guest=guest, given=given: guest.poll(0.05) or given.is_set(), what="the guest is let in")
        send(clean, 2 * round_ + 1)
        guest.close()
    settled(stored, clean)
    assert sink.said().count("unassigned") > 4
    assert not sink.ended

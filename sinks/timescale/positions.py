"""Where each partition stands in the database, and who may move it on. SQL on a connection that is given.

Taking over adds one to the epoch; every batch names its epoch and its start, first thing in its transaction. The row
lock is held to the end, so the transactions of one partition come one after another, their stretches tile without gap
or overlap, and an owner of before can write no more, whatever it still believes. READ COMMITTED suffices: after a
wait the condition is looked at again on the new row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from sinks.timescale.batch import Part, Stretch

SINK = "timescale"
"""Name of this sink in `sink_offsets`."""

# Takes a partition over; waits for a transaction that its former owner has open.
ACQUIRE = """
INSERT INTO sink_offsets AS o (sink, topic, part, next_offset, epoch, owner, cluster_id, topic_id)
VALUES (%(sink)s, %(topic)s, %(part)s, %(first)s, 1, %(owner)s, %(cluster_id)s, %(topic_id)s)
ON CONFLICT (sink, topic, part) DO UPDATE SET epoch = o.epoch + 1, owner = excluded.owner, updated_at = now()
RETURNING next_offset, generation, epoch, cluster_id, topic_id"""

# Moves a position to where an operator or a new log wants it.
MOVE = """
WITH moved AS (
  UPDATE sink_offsets
  SET next_offset = %(to)s, generation = generation + 1, cluster_id = %(cluster_id)s, topic_id = %(topic_id)s
  WHERE sink = %(sink)s AND topic = %(topic)s AND part = %(part)s
  RETURNING generation)
INSERT INTO replays (sink, topic, part, generation, stood_at, moved_to, reason, owner)
SELECT %(sink)s, %(topic)s, %(part)s, generation, %(stood_at)s, %(to)s, %(reason)s, %(owner)s FROM moved
RETURNING generation"""

# Moves on from where we left it. A row less: somebody else has written, or this very batch is stored already.
# Takes several locks in no order: who waits for one of them (`ACQUIRE`) holds none. Tells when the newest recalibration
# began; `guard` takes no row, but a lock on the table that the recording of the next one waits for.
ADVANCE = """
WITH guard AS (SELECT FROM recalibrations WHERE false FOR KEY SHARE)
UPDATE sink_offsets AS o SET next_offset = m.ends, updated_at = now()
FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[]) AS m (topic, part, epoch, begins, ends)
WHERE o.sink = %s AND o.topic = m.topic AND o.part = m.part AND o.epoch = m.epoch AND o.next_offset = m.begins
RETURNING (SELECT max(as_of) FROM recalibrations)"""

STANDS = "SELECT topic, part, next_offset, epoch FROM sink_offsets WHERE sink = %s"

OWNER = "SELECT owner FROM sink_offsets WHERE sink = %(sink)s AND topic = %(topic)s AND part = %(part)s"

# Ends the session of an owner that was frozen inside its transaction: nothing else makes it let go in mid COPY.
EVICT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"


class Fenced(Exception):  # noqa: N818 - named after what happened
    """Somebody else writes this partition now."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of a partition before it is opened."""

    part: Part
    cluster_id: str
    topic_id: str
    log_start: int
    reset_to: int | None  # Kafka's committed offset where it lacks our mark: set by an operator


@dataclass(frozen=True, slots=True)
class Position:
    """Where an opened partition stands."""

    next_offset: int
    generation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A position was moved: what lies there is read again."""

    part: Part
    stood_at: int
    moved_to: int
    generation: int
    reason: str


class Advance(NamedTuple):
    """What has come of it."""

    is_mine: bool  # false: not all stood where we left them; to be rolled back
    recalibrated: datetime | None  # when the newest recalibration began


def acquire(connection: psycopg.Connection[Any], claim: Claim, *, owner: str) -> tuple[Position, Replay | None]:
    """Opens a partition: the database's position wins, unless an operator or a new log says otherwise."""
    first = claim.log_start if claim.reset_to is None else claim.reset_to
    names = {"sink": SINK, "topic": claim.part.topic, "part": claim.part.number, "owner": owner}
    names |= {"cluster_id": claim.cluster_id, "topic_id": claim.topic_id}
    with connection.transaction():
        row = connection.execute(ACQUIRE, names | {"first": first}).fetchone()
        assert row is not None  # noqa: S101 - RETURNING of an upsert
        next_offset, generation, epoch, cluster_id, topic_id = row
        move = _move(claim, next_offset=next_offset, cluster_id=cluster_id, topic_id=topic_id)
        if move is None:
            return Position(next_offset, generation, epoch), None
        to, reason = move
        moved = connection.execute(MOVE, names | {"to": to, "stood_at": next_offset, "reason": reason}).fetchone()
        assert moved is not None  # noqa: S101 - the row is locked by us
    return Position(to, moved[0], epoch), Replay(claim.part, next_offset, to, moved[0], reason)


def _move(claim: Claim, *, next_offset: int, cluster_id: str, topic_id: str) -> tuple[int, str] | None:
    """Where the position belongs instead, and why."""
    if cluster_id != claim.cluster_id:
        return claim.log_start, "other_cluster"
    if topic_id != claim.topic_id:
        return claim.log_start, "topic_created_again"
    if claim.reset_to is not None and claim.reset_to != next_offset:
        return claim.reset_to, "operator"
    return None


def evict(connection: psycopg.Connection[Any], part: Part, *, mine: str, name: str) -> bool:
    """Ends the session of the partition's recorded owner, if that is not ours. `name` has a place for the owner."""
    row = connection.execute(OWNER, {"sink": SINK, "topic": part.topic, "part": part.number}).fetchone()
    if row is None or row[0] == mine:
        return False
    return connection.execute(EVICT, (name.format(row[0]),)).rowcount > 0


def advance(cursor: psycopg.Cursor[Any], stretches: Mapping[Part, Stretch], *, epochs: Mapping[Part, int]) -> Advance:
    """Moves all positions on, those that stand where we left them."""
    parts = sorted(stretches)
    cursor.execute(
        ADVANCE,
        (
            [part.topic for part in parts],
            [part.number for part in parts],
            [epochs[part] for part in parts],
            [stretches[part].start for part in parts],
            [stretches[part].end for part in parts],
            SINK,
        ),
    )
    answers = cursor.fetchall()
    return Advance(len(answers) == len(parts), answers[0][0] if answers else None)


def stored_already(
    cursor: psycopg.Cursor[Any], stretches: Mapping[Part, Stretch], *, epochs: Mapping[Part, int]
) -> bool:
    """Whether this very batch is in the database: its commit went through and the answer was lost."""
    stands = {Part(topic, part): (offset, epoch) for topic, part, offset, epoch in cursor.execute(STANDS, (SINK,))}
    return all(stands.get(part) == (stretch.end, epochs[part]) for part, stretch in stretches.items())

"""What the sink makes of each class of the database's errors, one by one on a real server.

An outage or a quarrel is waited for and rejects nothing; a bad record is found and told; our own bug ends the work.
"""

import select
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from fix_sink import clean_frame, until

from schemas.records import Heartbeat
from schemas.topics import HEARTBEATS, READINGS_CLEAN
from sinks.timescale.batch import Batch, Entry, Part, Stretch
from sinks.timescale.positions import Claim
from sinks.timescale.store import Patience, Store
from sinks.timescale.trouble import Trouble
from sinks.timescale.writer import Waiting, Writer

pytestmark = pytest.mark.integration
PART, BEATS = Part(READINGS_CLEAN, 0), Part(HEARTBEATS, 0)


class Told:
    """Takes what is rejected."""

    def __init__(self):
        self.details = []

    def tell(self, entries):
        for entry in entries:
            self.details.append(entry.body.detail)
            entry.told = True
        return 0


class Sink:
    """Store and writer without Kafka. `role` is not a superuser, whom limits and permissions would not meet."""

    def __init__(self, dsn):
        self.store = Store(dsn, owner="test", patience=Patience(lock_s=1, idle_in_transaction_s=1))
        self.told = Told()
        self.writer = Writer(self.store, self.told)
        self._at = dict.fromkeys((PART, BEATS), 0)
        for part in self._at:
            self.store.open(Claim(part, "c", "t", 0, None))

    def take(self, *bodies, part=PART):
        at = self._at[part]
        entries = [
            Entry(part, at + n, b"mast-0", b"", 1_600_000_000_000 + at + n, body) for n, body in enumerate(bodies)
        ]
        self._at[part] += len(bodies)
        self.writer.take(Batch(entries, {part: Stretch(at, at + len(bodies))}))
        self.writer.work()


@pytest.fixture
def role(stored):
    """A DSN of somebody who may do no more than the sink must."""
    name = "sink_" + stored.dsn.rpartition("/")[2]
    stored.call(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    stored.call(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}; GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    for table in ("readings", "sensors"):  # partitions are made by the table's owner
        stored.call(f"ALTER TABLE {table} OWNER TO {name}")
    yield "postgresql://" + name + ":x@" + stored.dsn.rpartition("@")[2]
    stored.call(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def sink(role):
    made = Sink(role)
    yield made
    made.store.close()


HANG_UP = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'telltale-sink test'"
# What makes trouble, what ends it. {db} is the database; hanging up makes the sink connect anew.
PASSING = {
    "57P01 session ended by an administrator": (HANG_UP, "SELECT 1"),
    "53300 too many connections": ("ALTER DATABASE {db} CONNECTION LIMIT 0", "ALTER DATABASE {db} CONNECTION LIMIT -1"),
    "28000 role may not log in": ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"),
    "28P01 wrong password": ("ALTER ROLE {role} PASSWORD 'y'", "ALTER ROLE {role} PASSWORD 'x'"),
    "25006 read-only": (
        "ALTER DATABASE {db} SET default_transaction_read_only = on",
        "ALTER DATABASE {db} RESET default_transaction_read_only",
    ),
    "42501 permission denied": ("REVOKE INSERT ON heartbeats FROM {role}", "GRANT INSERT ON heartbeats TO {role}"),
    "3D000 database renamed": ("ALTER DATABASE {db} RENAME TO {db}_away", "ALTER DATABASE {db}_away RENAME TO {db}"),
}


def beat(minute=0, version="1.0"):
    counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 1)
    at = f"2020-01-01T00:{minute:02}:00Z"
    return Heartbeat(device_id="m", spool_id="s", time=at, started=at, version=version, free_disk_bytes=9, **counts)


@pytest.mark.parametrize("case", PASSING)
def test_trouble_that_passes_is_waited_for(stored, role, database_server, sink, *, case, book):
    sink.take(beat(0), part=BEATS)
    names = {"db": stored.dsn.rpartition("/")[2], "role": role.partition("//")[2].partition(":")[0]}
    begin, end = (statement.format(**names) for statement in PASSING[case])
    stored.rows(HANG_UP)
    with psycopg.connect(stored.dsn if "REVOKE" in begin else database_server, autocommit=True) as admin:
        until(lambda: _done(admin, begin), what=begin)
        with pytest.raises(Waiting) as met:
            sink.take(beat(1), part=BEATS)
        admin.execute(end)
    assert met.value.why == Trouble.AWAY
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 2
    assert sink.told.details == []
    book.tell(f"database throws: {case}", "made by an administrator, then undone: waited for", accepted=2)


def _done(admin, statement):
    try:
        admin.execute(statement)
    except psycopg.errors.ObjectInUse:  # a session that is going away
        return False
    return True


@pytest.mark.parametrize(
    "state", ["53100", "53200", "58030", "40001", "40P01", "55P03", "57014", "57P02", "57P03", "XX000"]
)
def test_outage_that_cannot_be_made_is_told_by_the_server_all_the_same(stored, sink, state, book):
    """Its code is raised by a trigger: what counts is that the real line carries it."""
    stored.call(
        f"CREATE FUNCTION strike() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '{state}'; END $$;"
        "CREATE TRIGGER strike BEFORE INSERT ON heartbeats EXECUTE FUNCTION strike()"
    )
    with pytest.raises(Waiting):
        sink.take(beat(), part=BEATS)
    stored.call("DROP TRIGGER strike ON heartbeats")
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 1
    assert sink.told.details == []
    book.tell(f"database throws: {state}", "raised by the server, then not: waited for, nothing rejected", accepted=1)


def test_lock_held_by_somebody_else_is_waited_for(stored, sink, book):
    with psycopg.connect(stored.dsn) as other:
        other.execute("LOCK heartbeats IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Waiting, match="55P03"):
            sink.take(beat(), part=BEATS)
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 1
    book.tell("database throws: a real lock", "held by somebody else, then released: waited for", accepted=1)


WAITS = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'telltale-sink test' AND wait_event_type = 'Lock'"


def test_deadlock_is_tried_again(stored, sink, book):
    """Each holds what the other wants; the server ends the one whose timeout is the shorter: ours."""
    stored.call(f"ALTER DATABASE {stored.dsn.rpartition('/')[2]} SET deadlock_timeout = '4s'")
    sink.store.close()
    with psycopg.connect(stored.dsn) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '10min'")
        other.execute("LOCK TABLE heartbeats IN EXCLUSIVE MODE")
        sink.store.connection.execute("SET lock_timeout = '60s'")
        taking = pool.submit(sink.take, beat(), part=BEATS)
        until(lambda: stored.rows(WAITS), what="the sink stands in line")
        other.execute("UPDATE sink_offsets SET updated_at = now()")
        with pytest.raises(Waiting, match="40P01"):
            taking.result()
        other.commit()
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 1
    assert sink.told.details == []
    book.tell("database throws: a real deadlock", "each holds what the other wants: tried again", accepted=1)


def test_serialization_failure_is_tried_again(stored, sink, book):
    stored.call(f"ALTER DATABASE {stored.dsn.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    sink.store.close()
    with psycopg.connect(stored.dsn) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE sink_offsets SET updated_at = now()")
        taking = pool.submit(sink.take, beat(), part=BEATS)
        until(lambda: stored.rows(WAITS), what="the sink stands in line")
        other.commit()
        with pytest.raises(Waiting, match="40001"):
            taking.result()
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 1
    book.tell("database throws: a real serialization failure", "two transactions at one row: tried again", accepted=1)


def test_session_that_stands_still_in_a_transaction_is_ended_by_the_server(stored, sink):
    connection = sink.store.connection
    connection.execute("BEGIN")
    connection.execute("UPDATE sink_offsets SET updated_at = now()")
    until(lambda: select.select([connection.pgconn.socket], [], [], 0)[0], what="the server ends it")
    with pytest.raises(Waiting, match=r"25P03|25P04|terminat"):
        sink.take(beat(), part=BEATS)
    sink.writer.work()
    assert stored.one("SELECT count(*) FROM heartbeats") == 1


def test_bad_records_are_found_among_the_good_and_told(stored, sink, book):
    stored.call("ALTER TABLE heartbeats ADD CONSTRAINT positive CHECK (depth >= 0)")
    stored.call("CREATE UNIQUE INDEX one_version ON heartbeats (version, received)")
    nul, negative = beat(1, "1\0"), beat(2).model_copy(update={"depth": -1})
    wide = beat(3).model_copy(update={"depth": 2**63 - 1, "sources": ()})
    stored.call("DROP VIEW devices_now")  # it would hold the column
    stored.call("ALTER TABLE heartbeats ALTER COLUMN depth_bytes TYPE smallint")
    too_wide = beat(4).model_copy(update={"depth_bytes": 70_000})
    good = [beat(10 + n) for n in range(20)]
    sink.take(*good[:5], nul, *good[5:9], negative, *good[9:], wide, too_wide, part=BEATS)
    assert stored.one("SELECT count(*) FROM heartbeats") == 21
    assert sorted(detail[:5] for detail in sink.told.details) == ["22003", "22P05", "23514"]
    book.tell(
        "database throws: constraint, number out of range, no such character",
        "3 bad records among 21 good ones in a batch: those 3 rejected with their reason, 21 stored",
        accepted=24,
    )


def test_our_own_bug_ends_the_work_and_acknowledges_nothing(stored, sink, book):
    sink.take(clean_frame("mast-0", 0, 5))
    stored.call("ALTER TABLE heartbeats DROP COLUMN spool_id CASCADE")  # with the views of it
    with pytest.raises(psycopg.errors.UndefinedColumn):
        sink.take(beat(), part=BEATS)
    assert stored.one("SELECT next_offset FROM sink_offsets WHERE topic = %s", HEARTBEATS) == 0
    assert sink.told.details == []
    book.tell(
        "database throws: our own bug",
        "42703, a column that is not there: the sink ends, nothing acknowledged, the record is read again",
        accepted=10,
    )

"""Backups of a real database under a real sink: after a restore nothing is lost and nothing is there twice."""

import json
import signal
import subprocess
import sys
import threading

import psycopg
import pytest
from fix_services import await_true
from fix_sink import clean_frame, until
from psycopg import sql

from infra.audit import journal
from infra.offsets import committed
from schemas.alarms import read_alarm
from schemas.topics import ALARMS, READINGS_CLEAN, SINK_GROUP

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions():
    return 4


DEVICES = [f"mast-{number}" for number in range(6)]
PACE_S = 0.01  # some 10,000 readings/s: what is compared in the end stays small


@pytest.fixture
def telltale(stored, tmp_path, monkeypatch):
    """Runs `telltale backup ...` on the test's database and a folder of its own."""
    monkeypatch.setenv("TELLTALE_DATABASE", stored.dsn)
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path / "stack"))
    monkeypatch.setenv("TELLTALE_BACKUP_FOLDER", str(tmp_path / "backups"))

    def run(*words, code=0):
        command = [sys.executable, "-m", "infra.command", "backup", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stderr
        if code:
            assert len(done.stderr.splitlines()) == 1, done.stderr
            return done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return run


@pytest.fixture
def some(stored):
    """A database with something in every kind of column."""
    write(
        stored.dsn,
        """
        INSERT INTO sensors (device_id, channel, limits, windows_s) VALUES ('mast', 'Spd80', '{"max": 1.5}', '{600}');
        INSERT INTO rejected VALUES ('readings.raw', 0, 7, NULL, 'unreadable', 'no', 1, now(), '\\x00ff');
        INSERT INTO windows SELECT 1, 600, '2026-01-01'::timestamptz + n * interval '600 s', 0, 0, 0, 60, 0, 0, 0,
          'NaN', 'Infinity', n / 3.0, '-Infinity' FROM generate_series(1, 500) n;""",
    )
    return stored


def write(dsn, statements):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def server_of(dsn):
    return dsn.rpartition("/")[0] + "/postgres"


def drop(dsn):
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(dsn.rpartition("/")[2]))
    with psycopg.connect(server_of(dsn), autocommit=True) as connection:
        connection.execute(statement)


def databases(dsn):
    with psycopg.connect(server_of(dsn), autocommit=True) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


class Load:
    """Produces until told to stop."""

    def __init__(self, clean):
        self.clean, self._stop = clean, threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(PACE_S):
            self.clean.send(*(clean_frame(device, self.rounds * 10, 10) for device in DEVICES))
            self.rounds += 1

    def go_on(self, rounds):
        """Until so many more rounds are produced."""
        wanted = self.rounds + rounds
        until(lambda: self.rounds >= wanted, what="more is produced")

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def load(clean):
    running = Load(clean)
    yield running
    running.stop()


def believed(cluster):
    """What Kafka believes of the sink's position, by partition."""
    from confluent_kafka import Consumer, TopicPartition

    from infra.client import reader

    consumer = Consumer(reader(cluster, group=SINK_GROUP))
    found = committed(consumer, [TopicPartition(READINGS_CLEAN, part) for part in range(4)])
    consumer.close()
    return {each.partition: each.offset for each in found}


POSITIONS = "SELECT part, next_offset FROM sink_offsets WHERE topic = %s"


@pytest.fixture
def position(cluster, stored):
    """Where the sink stands in `readings.clean`: by Kafka, by the database."""

    def both():
        return believed(cluster), dict(stored.rows(POSITIONS, READINGS_CLEAN))

    return both


def test_sink_goes_on_from_the_restored_offsets(load, position, stored, start_sink, telltale):
    clean = load.clean
    sink = start_sink().working()
    load.go_on(20)
    telltale("create")  # while the sink writes
    load.go_on(50)
    load.stop()
    until(lambda: stored.readings() == clean.expected, what="all is stored")
    sink.send(signal.SIGTERM)
    assert sink.wait() == 0
    drop(stored.dsn)
    telltale("restore")
    assert 0 < stored.one("SELECT count(*) FROM readings") < len(clean.expected)
    told, stands = position()
    ahead = [part for part in stands if told[part] > stands[part]]
    assert len(ahead) >= 3  # Kafka's position, and the database's must win
    start_sink().working()
    until(lambda: stored.readings() == clean.expected, what="what is missing is read again")
    assert stored.rows("SELECT * FROM replays") == []


def test_database_is_replaced_under_a_running_sink(load, stored, start_sink, telltale, book):
    clean = load.clean
    sink = start_sink().working()
    load.go_on(20)
    telltale("create", "--verify")
    load.go_on(20)
    telltale("restore", "--force")
    load.go_on(20)
    load.stop()
    until(lambda: stored.readings() == clean.expected, what="what is missing is read again")
    assert not sink.ended
    assert stored.rows("SELECT * FROM replays") == []
    book.tell(
        "backup restored under load",
        "the database replaced by an older backup while the sink writes: what is missing is read again",
        accepted=len(clean.expected),
    )


def test_backup_is_listed_verified_and_restored_beside(some, telltale, tmp_path):
    made = telltale("create", "--json")
    (listed,) = telltale("list", "--json")["backups"]
    assert (listed["name"], listed["verified"]) == (made["name"], None)
    told = telltale("verify", "--json")
    assert told["verified"]
    deeds = (tmp_path / "stack" / "audit" / journal.JOURNAL).read_text().splitlines()
    assert [json.loads(line)["what"] for line in deeds] == ["backup.create"]
    assert telltale("list").endswith(f"1 backup in {made['path'].rpartition('/')[0]}\n")
    beside = f"{made['database']}_beside"
    try:
        telltale("restore", made["name"], "--into", beside)
        question = "SELECT min, sd, mean FROM windows ORDER BY start"
        with psycopg.connect(some.dsn.rpartition("/")[0] + f"/{beside}") as connection:
            assert str(connection.execute(question).fetchall()) == str(some.rows(question))
    finally:
        drop(some.dsn.rpartition("/")[0] + f"/{beside}")
    assert not {name for name in databases(some.dsn) if "telltale_" in name}


def test_restore_overwrites_only_when_told_to(some, telltale):
    telltale("create")
    write(some.dsn, "DELETE FROM windows")
    assert "--force replaces it" in telltale("restore", code=2)
    telltale("restore", "--force")
    assert some.one("SELECT count(*) FROM windows") == 500
    write(some.dsn, "INSERT INTO sensors (device_id, channel) VALUES ('mast', 'Dir78')")  # numbers go on
    assert some.rows("SELECT sensor_id FROM sensors ORDER BY 1") == [(1,), (2,)]


def test_bytes_that_changed_are_noticed(some, telltale, tmp_path):
    made = telltale("create", "--verify", "--json")
    dump = tmp_path / "backups" / made["name"] / "dump"
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    assert "SHA-256 differs" in telltale("verify", code=1)
    assert telltale("list", "--json")["backups"][0]["verified"] is None
    telltale("restore", "--force", code=1)
    assert some.one("SELECT count(*) FROM windows") == 500


def test_table_that_does_not_come_back_is_named(some, telltale, tmp_path):
    made = telltale("create", "--json")
    manifest = tmp_path / "backups" / made["name"] / "manifest.json"
    about = json.loads(manifest.read_text())
    about["tables"]["public.windows"]["rows"] += 1
    about["tables"]["public.sensors"]["checksum"] = "1"
    manifest.write_text(json.dumps(about))
    said = telltale("verify", code=1)
    assert "public.windows has 500 rows, expected 501" in said
    assert "public.sensors has other values in its 1 row" in said
    assert not {name for name in databases(some.dsn) if "scratch" in name}


def test_backup_of_a_newer_telltale_replaces_nothing(some, telltale):
    write(some.dsn, "INSERT INTO migrations VALUES ('9999_later.sql', 'x')")
    telltale("create")
    write(some.dsn, "DELETE FROM migrations WHERE name = '9999_later.sql'; DELETE FROM windows")
    assert "update Telltale" in telltale("restore", "--force", code=2)
    assert some.one("SELECT count(*) FROM windows") == 0
    assert len(some.rows("SELECT 1 FROM migrations WHERE name = '9999_later.sql'")) == 0


def test_killed_backup_leaves_none_and_the_next_one_works(some, telltale, tmp_path):
    with psycopg.connect(some.dsn) as holder:
        holder.execute("LOCK TABLE rejected IN ACCESS EXCLUSIVE MODE")
        command = [sys.executable, "-m", "infra.command", "backup", "create"]
        making = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        await_true(lambda: list(tmp_path.glob("backups/*.partial")), what="it has begun")
        making.kill()
        making.wait()
    assert telltale("list", "--json")["backups"] == []
    made = telltale("create", "--keep", "1", "--json")
    assert [path.name for path in (tmp_path / "backups").glob("[!.]*")] == [made["name"]]


def test_wrong_words_are_refused_in_one_line(stored, database_server, telltale, monkeypatch):
    monkeypatch.delenv("TELLTALE_BACKUP_EVERY", raising=False)
    assert "no backup" in telltale("restore", code=2)
    assert "no backup" in telltale("verify", "telltale-2020", code=2)
    assert "TELLTALE_BACKUP_EVERY" in telltale("run", "--kafka", "127.0.0.1:1", code=2)
    monkeypatch.setenv("TELLTALE_BACKUP_EVERY", "often")
    assert "such as 12h" in telltale("list", code=2)
    monkeypatch.delenv("TELLTALE_BACKUP_EVERY")
    assert "no schema of Telltale" in telltale("create", "--database", database_server, code=2)
    telltale("create")
    assert "the server's own" in telltale("restore", "--into", "postgres", code=2)
    telltale("create", "--database", "postgresql://127.0.0.1:1/none", code=1)


# --- alarms ---


def alarms(cluster, count):
    """The first alarm events: rule and state."""
    from confluent_kafka import Consumer

    from infra.client import reader

    consumer = Consumer(reader(cluster, group="tests"))
    consumer.subscribe([ALARMS])
    found = []
    until(lambda: len(found) >= count or take(consumer, found), what="the alarms")
    consumer.close()
    return [(event.data.rule, event.data.state, event.source) for event in sorted(found, key=lambda e: e.time)]


def take(consumer, found):
    message = consumer.poll(0.2)
    if message is not None and message.error() is None:
        found.append(read_alarm(message.value()))
    return False


def test_failed_backup_is_an_alarm_that_the_next_one_clears(cluster, some, telltale, monkeypatch, book):
    monkeypatch.setenv("TELLTALE_KAFKA", cluster)
    monkeypatch.setenv("TELLTALE_BACKUP_EVERY", "1h")
    write(some.dsn, "ALTER TABLE migrations RENAME TO away")
    once = [sys.executable, "-m", "infra.command", "backup", "run", "--once"]
    assert subprocess.run(once, check=False, stdout=subprocess.DEVNULL).returncode == 1
    write(some.dsn, "ALTER TABLE away RENAME TO migrations")
    telltale("run", "--once")
    told = [("backup_failed", state, "telltale/backup") for state in ("raised", "cleared")]
    assert alarms(cluster, 2) == told
    assert telltale("list", "--json")["backups"][0]["verified"]
    book.tell(
        "backup fails",
        "a table is not there; then it is",
        accepted=0,
        alarm="backup_failed when the backup ends, cleared by the next",
    )


def test_schedule_runs_until_it_is_told_to_end(cluster, some, start, telltale, monkeypatch):
    service = start("backup", "run", TELLTALE_KAFKA=cluster, TELLTALE_BACKUP_EVERY="1h").await_ready()
    await_true(
        lambda: [each for each in telltale("list", "--json")["backups"] if each["verified"]],
        what="the first backup is made and verified",
    )
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()

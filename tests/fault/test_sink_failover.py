"""The database is replaced by a standby that lacks the last commits, runs out of disk, or is damaged."""

import os
import subprocess

import psycopg
import pytest
from fix_sink import DEVICES, Database, Line, alarms_are_over, alarms_heard, clean_frame, now, settled, until
from fix_stack import _start, _stop
from small_disk import make_room, small_disk

from infra import ports
from infra.accounts import unprivileged
from infra.postgres import programs, server

pytestmark = [pytest.mark.integration, pytest.mark.fault]
SETTINGS = (("max_wal_size", "256MB"), ("hot_standby_feedback", "on"))


@pytest.fixture
def device_partitions():
    return 2


def running(one, log):
    account = unprivileged()
    process = _start(one.command(), log=log, cwd=one.place, account=account.popen() if account else None)
    until(lambda: server.answers(one.dsn("postgres")), what="PostgreSQL")
    return process


@pytest.fixture
def pair(stack_folder):
    """A server with the schema in it, and the place of its standby."""
    made = [server.Server(stack_folder / name, ports.free(), settings=SETTINGS) for name in ("primary", "standby")]
    made[0].prepare()
    made[1].settle_in()
    (made[1].folder / "password").write_text(made[0].password)
    yield made
    for one in made:
        one.remove()


def follow(primary, standby):
    """Copies the primary into the standby's place; it will stream from there on."""
    account = unprivileged()
    tool = programs.find(account=account).program("pg_basebackup")
    if not os.access(tool, os.X_OK):
        pytest.skip("no pg_basebackup")
    subprocess.run(
        [tool, "-d", primary.dsn("postgres"), "-D", str(standby.place / "data"), "-R", "-c", "fast"],
        check=True,
        cwd=standby.place,
        capture_output=True,
        **(account.popen() if account else {}),
    )


def send(clean, round_):
    clean.send(*(clean_frame(device, 300 * round_, 300) for device in DEVICES))


def test_failover_to_a_standby_that_lacks_the_last_commits(clean, pair, start_sink, tmp_path, book):
    primary, standby = pair
    processes = [running(primary, tmp_path / "primary.log")]
    line = None
    try:
        server.ensure_database(primary.dsn("postgres"), "telltale")
        first, second = Database(primary.dsn("telltale")), None
        follow(primary, standby)
        processes.append(running(standby, tmp_path / "standby.log"))
        line = Line(first.dsn)
        sink = start_sink(dsn=line.dsn, TELLTALE_SINK_ALARM_AFTER_S="1").working()
        send(clean, 0)
        settled(first, clean)
        with psycopg.connect(standby.dsn("telltale"), autocommit=True) as look:
            until(
                lambda: look.execute("SELECT count(*) FROM readings").fetchone()[0] == 3600, what="the standby follows"
            )
            look.execute("SELECT pg_wal_replay_pause()")
        _kill(processes[1])  # what follows never reaches it
        send(clean, 1)
        settled(first, clean)
        fault = now()
        _kill(processes[0])
        (standby.place / "data" / "standby.signal").touch()
        processes[1] = running(standby, tmp_path / "standby2.log")
        line.lead_to(standby.dsn("telltale"))
        send(clean, 2)
        until(lambda: "25006" in sink.said() or "read-only" in sink.said(), what="a standby takes no writes")
        until(lambda: "state=raised" in sink.said(), what="the alarm")
        mended = now()
        with psycopg.connect(standby.dsn("postgres"), autocommit=True) as look:
            look.execute("SELECT pg_promote()")
        second = Database(standby.dsn("telltale"), migrate=False)
        settled(second, clean)
        recovered_s = (now() - mended).total_seconds()
        until(lambda: alarms_are_over(second), what="the alarm is raised and cleared")
        assert second.one("SELECT count(*) FROM rejected") == 0
        assert not sink.ended
        book.tell(
            "standby failover",
            "the database killed, its standby without the last 3,600 readings promoted",
            accepted=len(clean.expected),
            alarm=alarms_heard(second, fault=fault, mended=mended),
            recovered_s=recovered_s,
        )
    finally:
        for process in processes:
            _kill(process)
        if line:
            line.close()


def _kill(process):
    if process.poll() is None:
        process.kill()
        process.wait()


def test_full_disk_is_waited_for(clean, pair, start_sink, tmp_path, book):
    primary, _ = pair
    process = running(primary, tmp_path / "pg.log")
    try:
        with small_disk(primary.place / "small", "6m") as small:
            if account := unprivileged():
                account.own(small)
            server.ensure_database(primary.dsn("postgres"), "telltale")
            database = Database(primary.dsn("telltale"))
            filler = small / "filler"
            database.call(f"CREATE TABLESPACE small LOCATION '{small}'")
            database.call("ALTER TABLE readings SET TABLESPACE small")
            sink = start_sink(dsn=database.dsn, TELLTALE_SINK_ALARM_AFTER_S="1").working()
            send(clean, 0)
            settled(database, clean)
            database.call("ALTER TABLE readings_2016_11 SET TABLESPACE small")
            fault = now()
            filler.write_bytes(bytes(5 * 2**20))
            for round_ in range(1, 10):
                send(clean, round_)
            until(lambda: "53100" in sink.said() and "state=raised" in sink.said(), what="the disk is full")
            until(lambda: database.one("SELECT count(*) FROM sink_offsets") > 0, what="the server goes on")
            mended = now()
            filler.unlink()
            make_room(small, "64m")
            settled(database, clean)
            recovered_s = (now() - mended).total_seconds()
            until(lambda: alarms_are_over(database), what="the alarm is raised and cleared")
            assert database.one("SELECT count(*) FROM rejected") == 0
            book.tell(
                "disk full: database",
                "the disk of its readings filled; room made after the alarm",
                accepted=len(clean.expected),
                alarm=alarms_heard(database, fault=fault, mended=mended),
                recovered_s=recovered_s,
            )
            _stop(process, server.STOP_SIGNAL)
    finally:
        _kill(process)


def test_damaged_index_is_waited_for_and_mended(clean, pair, start_sink, tmp_path, book):
    primary, _ = pair
    process = running(primary, tmp_path / "pg.log")
    try:
        server.ensure_database(primary.dsn("postgres"), "telltale")
        database = Database(primary.dsn("telltale"))
        sink = start_sink(dsn=database.dsn, TELLTALE_SINK_ALARM_AFTER_S="1").working()
        send(clean, 0)
        settled(database, clean)
        [(index, path)] = database.rows(
            "SELECT indexrelid::regclass::text, pg_relation_filepath(indexrelid) FROM pg_index"
            " WHERE indrelid = 'readings_2016_11'::regclass"
        )
        _stop(process, server.STOP_SIGNAL)
        file = primary.place / "data" / path
        file.write_bytes(b"\x55" * file.stat().st_size)
        process = running(primary, tmp_path / "pg2.log")
        fault = now()
        send(clean, 1)
        until(lambda: "XX00" in sink.said() and "state=raised" in sink.said(), what="the sink meets the damage")
        mended = now()
        database.call(f"REINDEX INDEX {index}")
        settled(database, clean)
        until(lambda: alarms_are_over(database), what="the alarm is raised and cleared")
        assert database.one("SELECT count(*) FROM rejected") == 0
        assert not sink.ended
        book.tell(
            "database throws: XX002, a damaged index",
            "the index's file overwritten; REINDEX after the alarm",
            accepted=len(clean.expected),
            alarm=alarms_heard(database, fault=fault, mended=mended),
        )
    finally:
        _kill(process)

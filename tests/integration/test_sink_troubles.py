"""The sink in trouble: records that cannot be taken, a database that goes away, a log that has lost its beginning."""

import json
import signal
from contextlib import contextmanager

import httpx
import pytest
from fix_sink import Database, alarms_heard, clean_frame, now, reset_group, until
from fix_stack import _start, _stop

from infra import ports
from infra.accounts import unprivileged
from infra.offsets import ends, listed
from infra.postgres import server
from schemas.codec import Codec
from schemas.records import Heartbeat
from schemas.topics import ALARMS, HEARTBEATS, READINGS_CLEAN, READINGS_REJECTED

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions():
    return 2


def produce(cluster, records):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": cluster})
    for topic, key, value in records:
        producer.produce(topic, key=key, value=value, partition=0)
        producer.flush()


def heartbeat(version, minute=0):
    counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 1)
    time = f"2020-01-01T00:{minute:02}:00Z"
    return Heartbeat(
        device_id="mast-0", spool_id="s", time=time, started=time, version=version, free_disk_bytes=9, **counts
    )


def test_records_that_cannot_be_taken_are_told_and_the_rest_is_stored(cluster, stored, start_sink):
    encode = Codec().encode
    wild, nameless = clean_frame("mast-0", 50, 5), clean_frame("mast-0", 60, 5, channels=("a\0b",))
    wild.quality[2, 0] = 70_000
    bad = [
        (READINGS_CLEAN, b"mast-0", b"no record at all"),
        (READINGS_CLEAN, b"mast-0", encode(wild)),
        (READINGS_CLEAN, b"mast-0", encode(nameless)),
        (HEARTBEATS, b"mast-0", encode(heartbeat("1.0\0"))),
        (READINGS_CLEAN, b"mast-0", None),
    ]
    good = [(READINGS_CLEAN, b"mast-0", encode(clean_frame("mast-0", 5 * n, 5))) for n in range(8)]
    beats = [(HEARTBEATS, b"mast-0", encode(heartbeat("1.0", minute))) for minute in range(4)]
    mixed = [record for group in zip(good, bad, strict=False) for record in group]
    produce(cluster, mixed + good[len(bad) :] + beats)
    start_sink().working()
    until(lambda: stored.one("SELECT count(*) FROM rejected") == len(bad), what="the rejected records")
    until(lambda: stored.one("SELECT count(*) FROM readings") == 8 * 5 * 2, what="the good readings")
    assert stored.one("SELECT count(*) FROM heartbeats") == 4
    reasons = stored.rows("SELECT topic, reason, rows FROM rejected ORDER BY topic, at_offset")
    assert reasons == [
        (HEARTBEATS, "database_refused", 1),
        (READINGS_CLEAN, "unreadable_wrong_magic", 0),
        (READINGS_CLEAN, "database_refused", 10),
        (READINGS_CLEAN, "database_refused", 5),
        (READINGS_CLEAN, "unreadable_empty", 0),
    ]
    assert stored.one("SELECT payload FROM rejected WHERE reason = 'unreadable_wrong_magic'") == bad[0][2]


def test_a_batch_that_librdkafka_does_not_unpack_is_told_and_what_is_behind_it_stored(cluster, stored, start_sink):
    """More than 100 MB, here in 120 records: a device that may write heartbeats can send such a thing."""
    from confluent_kafka import Producer

    megabyte = 1_000_000
    produce(cluster, [(HEARTBEATS, b"mast-0", Codec().encode(heartbeat("1.0", 0)))])
    large = {"message.max.bytes": 200 * megabyte, "batch.size": 200 * megabyte, "queue.buffering.max.kbytes": 400_000}
    bomb = Producer({"bootstrap.servers": cluster, "compression.type": "zstd", "linger.ms": 1000, **large})
    told = []
    for _ in range(120):
        bomb.produce(HEARTBEATS, bytes(megabyte), partition=0, on_delivery=lambda error, _: told.append(error))
    assert (bomb.flush(60), told) == (0, [None] * 120)
    produce(cluster, [(HEARTBEATS, b"mast-0", Codec().encode(heartbeat("1.0", minute))) for minute in (1, 2)])
    sink = start_sink().working()
    until(lambda: stored.one("SELECT count(*) FROM heartbeats") == 3, what="the heartbeats around it")
    until(lambda: stored.one("SELECT count(*) FROM rejected") == 1, what="the batch is told")
    ((topic, offset, reason, detail),) = stored.rows("SELECT topic, at_offset, reason, detail FROM rejected")
    assert (topic, offset, reason) == (HEARTBEATS, 1, "too_large")
    assert detail.startswith("its batch of offsets 1 to 120 is not unpacked: Decompression")
    assert not sink.ended


def alarms_told(cluster):
    """What the topic says, in the order of its partitions."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": cluster, "group.id": "look", "enable.partition.eof": True})
    parts = sorted(consumer.list_topics(ALARMS).topics[ALARMS].partitions)
    consumer.assign([TopicPartition(ALARMS, part, 0) for part in parts])
    said, ended = [], 0
    while ended < len(parts):
        message = consumer.poll(5)
        ended += message.error() is not None
        if message.error() is None:
            said.append(json.loads(message.value())["data"])
    consumer.close()
    return said


def states_of_alarms(database):
    history = database.rows(
        "SELECT array_agg(e.state ORDER BY e.time), a.state FROM alarm_events e JOIN alarms a USING (alarm_id) "
        "GROUP BY e.alarm_id, a.state"
    )
    assert all(states[-1] == stands for states, stands in history)
    return [states for states, _ in history]


@contextmanager
def server_running(one, log):
    account = unprivileged()
    running = _start(one.command(), log=log, cwd=one.place, account=account.popen() if account else None)
    try:
        until(lambda: server.answers(one.dsn("postgres")), what="PostgreSQL")
        yield running
    finally:
        _stop(running, server.STOP_SIGNAL)


@pytest.fixture
def own_server(stack_folder):
    """A database server that a test may stop and kill."""
    one = server.Server(stack_folder / "own", ports.free(), settings=(("max_wal_size", "256MB"),))
    one.prepare()
    yield one
    one.remove()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_database_that_goes_away_is_waited_for(clean, start_sink, own_server, tmp_path, *, ending, book):
    with server_running(own_server, tmp_path / "pg1.log") as running:
        server.ensure_database(own_server.dsn("postgres"), "telltale")
        database = Database(own_server.dsn("telltale"))
        sink = start_sink(dsn=database.dsn, TELLTALE_SINK_ALARM_AFTER_S="1").working()
        clean.send(clean_frame("mast-0", 0, 10))
        until(lambda: database.readings() == clean.expected, what="the first readings")
        clean.send(clean_frame("mast-0", 10, 1000))
        fault = now()
        running.send_signal(ending)
        running.wait()
    clean.send(clean_frame("mast-0", 2000, 10))
    [raised] = until(lambda: alarms_told(clean.address), what="the alarm")
    assert (raised["state"], raised["rule"]) == ("raised", "sink_waiting")
    mended = now()
    with server_running(own_server, tmp_path / "pg2.log"):
        until(lambda: database.readings() == clean.expected, what="all readings")
        recovered_s = (now() - mended).total_seconds()
        assert database.one("SELECT count(*) FROM rejected") == 0
        until(lambda: states_of_alarms(database) == [["raised", "cleared"]], what="the alarm's history")
        assert "neighbour_back" in sink.said()
        assert not sink.ended
        book.tell(
            f"database {'stopped' if ending == signal.SIGINT else 'killed'}, then up",
            f"{ending.name}, started again after the alarm",
            accepted=len(clean.expected),
            alarm=alarms_heard(database, fault=fault, mended=mended),
            recovered_s=recovered_s,
        )
        sink.send(signal.SIGTERM)
        assert sink.wait() == 0


def test_an_idle_sink_is_not_ready_while_its_database_is_away(clean, stored, start_sink, line):
    port = ports.free()
    start_sink(dsn=line.dsn, TELLTALE_METRICS_PORT=str(port)).working()

    def ready():
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json()

    until(lambda: ready()["ready"], what="the sink is ready")
    line.moment = lambda _, piece: None  # nothing is to be stored: only who asks can know
    until(lambda: not ready()["ready"], what="the sink says so")
    said = ready()["checks"]
    assert (said["database"]["ok"], said["database"]["required"]) == (False, True)
    line.moment = lambda _, piece: piece
    until(lambda: ready()["ready"], what="the sink is ready again")
    clean.send(clean_frame("mast-0", 0, 10))
    until(lambda: stored.readings() == clean.expected, what="readings")


@pytest.mark.parametrize("device_partitions", [1])
def test_a_sink_more_than_partitions_stands_by_and_takes_over(clean, stored, start_sink):
    at = [ports.free() for _ in range(2)]
    sinks = [start_sink(TELLTALE_METRICS_PORT=str(port)).working() for port in at]

    def shares():
        """How many partitions each has by what it says of itself, once all are ready and one has none."""
        said = [httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json() for port in at]
        found = [each["checks"]["assigned"]["value"] for each in said]
        return found if all(each["ready"] for each in said) and 0 in found else None

    shared = until(shares, what="both are ready, one without a partition")
    clean.send(clean_frame("mast-0", 0, 10))
    until(lambda: stored.readings() == clean.expected, what="the readings")
    sinks[shared.index(max(shared))].send(signal.SIGTERM)
    clean.send(clean_frame("mast-0", 10, 10))
    until(lambda: stored.readings() == clean.expected, what="the other goes on")


def test_log_that_has_lost_what_comes_next_stops_the_sink(cluster, clean, stored, start_sink, book):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    clean.send(clean_frame("mast-0", 0, 10))
    sink = start_sink().working()
    until(lambda: stored.readings() == clean.expected, what="the readings")
    sink.send(signal.SIGTERM)
    sink.wait()
    clean.send(clean_frame("mast-0", 10, 10))
    [part] = [
        row[0]
        for row in stored.rows("SELECT part FROM sink_offsets WHERE topic = %s AND next_offset > 0", READINGS_CLEAN)
    ]
    admin = AdminClient({"bootstrap.servers": cluster})
    for future in admin.delete_records([TopicPartition(READINGS_CLEAN, part, -1)]).values():
        future.result()
    clean.send(clean_frame("mast-0", 20, 10))
    fault = now()
    for _ in range(2):  # as a supervisor would
        sink = start_sink()
        assert sink.wait() == 1
        assert "the log does not hold" in sink.said()
        assert "Traceback" not in sink.said()
    assert len({alarm["alarm_id"] for alarm in alarms_told(cluster)}) == 1
    starts = listed(admin, {TopicPartition(READINGS_CLEAN, part): OffsetSpec.earliest()})
    mended = now()
    reset_group(cluster, part=part, offset=next(iter(starts.values())).offset)
    start_sink().working()
    until(lambda: stored.one("SELECT count(*) FROM readings") == 40, what="what there is")
    until(lambda: states_of_alarms(stored) == [["raised", "cleared"]], what="the alarm's history")
    book.tell(
        "retention overtakes the stopped sink",
        "20 of 60 readings deleted unread: the sink ends and says so until an operator says from where to go on",
        accepted=40,
        alarm=alarms_heard(stored, fault=fault, mended=mended),
    )


def test_rejected_record_is_told_before_its_offset_is_passed(cluster, stored, start_sink):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    produce(cluster, [(READINGS_CLEAN, b"mast-0", b"\1 not ours")])
    start_sink().working()
    until(lambda: stored.one("SELECT count(*) FROM rejected") == 1, what="the rejected record")
    admin = AdminClient({"bootstrap.servers": cluster})
    assert sum(ends(admin, [TopicPartition(READINGS_REJECTED, number) for number in range(2)]).values()) == 1

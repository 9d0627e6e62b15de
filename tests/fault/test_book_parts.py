"""The fault book: parts of the pipeline go away under load and come back. Devices notice nothing, people hear of it."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from book_devices import CHANNELS, Pusher
from book_pipeline import LINKS, PARTITIONS, Pipeline
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from fix_faultbook import Book
from fix_pipeline import Begin
from fix_stage import Wire, make_device
from wrong_clock import wrong_clock

from infra.client import connection
from schemas.topics import READINGS_RAW, STREAMS_STATE

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def outages(book: Book) -> list[tuple[str, float]]:
    """(how it is called, seconds beyond the alarm)."""
    return (
        [("for a moment", 0.0), (f"for {book.outage_s:g} s more", book.outage_s)]
        if book.is_long
        else [("for a moment", 0.0)]
    )


def down_then_up(
    begin: Begin,
    book: Book,
    name: str,
    *,
    kill: Callable[[], object],
    start: Callable[[], object],
    alarm: str,
    source: str = "",
) -> None:
    for called, longer_s in outages(book):
        scenario = begin()
        scenario.fault()
        kill()
        scenario.alarm(alarm, source=source)
        scenario.accepts()
        book.say(f"{name} away {called}")
        time.sleep(longer_s)
        scenario.mended()
        start()
        scenario.recovered()
        scenario.cleared(alarm, source=source)
        scenario.row(f"{name} down {called}, then up", "kill -9, started again after the alarm")


@pytest.mark.usefixtures("long_form")
def test_broker_killed(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    kafka = pipeline.kafka
    down_then_up(begin, book, "broker", kill=kafka.kill, start=kafka.start, alarm="broker_unreachable")


@pytest.mark.parametrize("name", ["streams", "sink"])
def test_service_away(pipeline: Pipeline, begin: Begin, book: Book, name: str) -> None:
    down_then_up(
        begin,
        book,
        name,
        kill=lambda: pipeline.take_away(name),
        start=lambda: pipeline.start(name),
        alarm="no_progress",
        source=f"telltale-{name}",
    )


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_database_away(pipeline: Pipeline, begin: Begin, book: Book, request: pytest.FixtureRequest, how: str) -> None:
    if how == "killed":  # its short form is in tests/integration/test_sink_troubles.py
        request.getfixturevalue("long_form")
    database = pipeline.database
    harm, undo, done = {
        "frozen": (database.freeze, database.thaw, "SIGSTOP of all its processes, woken after both alarms"),
        "killed": (database.kill, database.start, "kill -9 under load, started again after both alarms"),
    }[how]
    for called, longer_s in outages(book):
        scenario = begin()
        scenario.fault()
        harm()
        scenario.alarm("sink_waiting")
        scenario.alarm("database_unreachable")
        scenario.accepts()
        book.say(f"database {how} {called}")
        time.sleep(longer_s)
        scenario.mended()
        undo()
        scenario.recovered()
        scenario.cleared("database_unreachable")
        scenario.cleared("sink_waiting")
        scenario.row(f"database {how} {called}", done)


def test_everything_killed_at_once(pipeline: Pipeline, begin: Begin) -> None:
    scenario = begin()
    scenario.fault()
    for name in pipeline.services:
        pipeline.take_away(name)
    pipeline.database.kill()
    pipeline.kafka.kill()
    scenario.accepts()
    scenario.mended()
    pipeline.heal()
    scenario.recovered()
    scenario.row("whole server killed", "kill -9 of broker, database and all services at once; all started again")


@pytest.mark.usefixtures("long_form")
def test_services_end_when_asked_to_while_their_neighbours_are_away(pipeline: Pipeline, begin: Begin) -> None:
    scenario = begin()
    scenario.fault()
    pipeline.database.kill()
    pipeline.kafka.kill()
    scenario.accepts()
    for name in pipeline.services:
        pipeline.take_away(name, kindly=True)
    scenario.mended()
    pipeline.heal()
    scenario.recovered()
    scenario.row(
        "services stopped while broker and database are away",
        "both kill -9, then SIGTERM to each service: they end by themselves; all started again",
    )


def test_rolling_restart(pipeline: Pipeline, begin: Begin) -> None:
    scenario = begin()
    scenario.fault()
    for name in pipeline.services:
        pipeline.take_away(name, kindly=True)
        pipeline.start(name).await_ready()
    pipeline.database.end()
    pipeline.database.start()
    pipeline.kafka.end()
    pipeline.kafka.start()
    scenario.accepts()
    scenario.mended()
    scenario.recovered()
    scenario.row("rolling restart of everything", "services, database and broker: each SIGTERM, started again")


@pytest.mark.parametrize("link", LINKS)
def test_bad_link(pipeline: Pipeline, begin: Begin, book: Book, link: str) -> None:
    done, about = LINKS[link]
    scenario, line = begin(), pipeline.kafka.line
    scenario.fault()
    for _ in range(30 if book.is_long else 2):
        for name, value in about.items():
            setattr(line, name, value)
        if not about:
            line.refuses = True
            line.cut()
            time.sleep(1)
            line.heal()
        time.sleep(1)
    scenario.accepts()
    if about:
        scenario.flows()  # slow, but all of it comes
    scenario.mended()
    line.heal()
    scenario.recovered()
    scenario.row(f"link: {link}", done)


VICTIMS = ("edge", "streams", "sink", "edge, streams", "edge, sink", "kafka", "database")


@pytest.mark.timeout(600)
def test_edge_and_server_killed_at_random(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    seed, kills = 20_161_221, book.kills if book.is_long else 3
    dice, done = random.Random(seed), Counter[str]()
    pipeline.configure(make_device("pushed", len(CHANNELS)))
    pusher = Pusher(pipeline.kafka.line.address, pipeline.folder, "pushed")
    scenario = begin(*pipeline.steady, "pushed")
    pusher.start()
    for number in range(kills):
        time.sleep(dice.uniform(0.2, 4.0))
        victim = dice.choice(VICTIMS) if book.is_long else ("edge, streams", "sink", "edge")[number]
        done[victim] += 1
        book.say(f"{number + 1} of {kills}: {victim}")
        for one in victim.split(", "):
            if one == "edge":
                pusher.kill()
                pusher.start()
            elif one == "kafka":
                pipeline.kafka.kill()
                pipeline.kafka.start()
            elif one == "database":
                pipeline.database.kill()
                pipeline.database.start()
            else:
                pipeline.kill(one)
    scenario.mended()
    pusher.kill()
    scenario.ends["pushed"] = pusher.drained()
    scenario.recovered()
    counted = ", ".join(f"{count} x {victim}" for victim, count in sorted(done.items()))
    scenario.row(
        "edge crashes, server crashes, both at once", f"kill -9 at {kills} random points: {counted}", seed=seed
    )


@pytest.mark.usefixtures("long_form")
def test_kafkas_disk_full(pipeline: Pipeline, begin: Begin) -> None:
    if not pipeline.kafka.has_disk:
        pytest.skip("a small disk can be made only by root")
    scenario, filler = begin(), pipeline.kafka.folder / "filler"
    scenario.fault()
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    scenario.accepts()
    # Kafka ends itself when its only disk fails; until it meets it, what it has taken is on that disk.
    pipeline.must(lambda: not pipeline.kafka.runs, what="the broker has met the full disk")
    scenario.alarm("broker_unreachable")
    scenario.mended()
    filler.unlink()
    pipeline.kafka.start()
    scenario.recovered()
    scenario.cleared("broker_unreachable")
    scenario.row("disk full: broker", "its disk filled to the last byte; room made and started again after the alarm")


@pytest.mark.usefixtures("long_form")
@pytest.mark.parametrize(("called", "ahead_s"), [("behind", -3600), ("ahead", 3600)])
def test_clock_of_the_broker_is_wrong(pipeline: Pipeline, begin: Begin, called: str, ahead_s: int) -> None:
    scenario = begin()
    pipeline.kafka.end()
    scenario.fault()
    pipeline.kafka.start(**wrong_clock(pipeline.folder, ahead_s))
    scenario.alarm("clock_skew", source="device/steady-0")
    scenario.flows()
    pipeline.kafka.end()
    scenario.mended()
    pipeline.kafka.start()
    scenario.recovered()
    scenario.cleared("clock_skew", source="device/steady-0")
    scenario.row(f"clock of the broker an hour {called}", "set by a preloaded library, then set right")


@pytest.mark.usefixtures("long_form")
@pytest.mark.parametrize(("called", "ahead_s"), [("ahead", 3600), ("behind", -3600)])
def test_clock_of_the_database_is_wrong(pipeline: Pipeline, begin: Begin, called: str, ahead_s: int) -> None:
    scenario, database = begin(), pipeline.database
    scenario.fault()
    database.end()
    database.start(**wrong_clock(pipeline.folder, ahead_s))
    scenario.alarm("host_clock_skew")
    scenario.flows()
    database.end()
    scenario.mended()
    database.start()
    scenario.recovered()
    scenario.cleared("host_clock_skew")
    scenario.row(f"clock of the database an hour {called}", "set by a preloaded library, then set right")


def topics_gone(pipeline: Pipeline, name: str) -> None:
    admin = AdminClient(connection(pipeline.kafka.address))
    admin.delete_topics([name], operation_timeout=30)[name].result()
    pipeline.must(lambda: name not in admin.list_topics(timeout=10).topics, what=f"{name} to be gone")


def test_state_topic_lost(pipeline: Pipeline, begin: Begin) -> None:
    scenario = begin()
    scenario.fault()
    topics_gone(pipeline, STREAMS_STATE)
    scenario.alarm("topics_differ")
    scenario.alarm("no_progress", source="telltale-streams")
    scenario.accepts()
    pipeline.take_away("streams")
    scenario.mended()
    pipeline.command("topics", "provision", "--partitions", str(PARTITIONS))
    pipeline.command("replay", "--from-beginning", "--kafka", pipeline.kafka.address)
    pipeline.start("streams")
    scenario.recovered()
    scenario.cleared("topics_differ")
    scenario.cleared("no_progress", source="telltale-streams")
    scenario.row("state topic lost", "streams.state deleted under load; made again, and replayed from the beginning")


def read_past(pipeline: Pipeline, topic: str) -> None:
    """Retention has deleted all that is there."""
    admin = AdminClient(connection(pipeline.kafka.address))
    for future in admin.delete_records([TopicPartition(topic, part, -1) for part in range(PARTITIONS)]).values():
        future.result()


@pytest.mark.usefixtures("long_form")
def test_retention_overtakes_the_stopped_stage(pipeline: Pipeline, begin: Begin) -> None:
    scenario = begin()
    pipeline.take_away("streams", kindly=True)
    scenario.fault()
    scenario.accepts()
    pipeline.all_is_sent()
    read_past(pipeline, READINGS_RAW)
    missing = pipeline.load.counts()
    pipeline.start("streams")
    scenario.alarm("sequence_gap")
    assert any(pipeline.lost(device, scenario.first[device], missing[device]) for device in pipeline.steady)
    scenario.mended()
    begins, ends = min(scenario.first.values()), max(missing.values()) + 1
    pipeline.resend(begins, ends)
    scenario.recovered()
    scenario.cleared("sequence_gap")
    scenario.row(
        "retention overtakes the stopped stage",
        "all of readings.raw deleted unread; sent again by the edge",
    )


@pytest.mark.usefixtures("long_form")
def test_kafkas_data_lost(pipeline: Pipeline, begin: Begin) -> None:
    """The last: what Kafka alone knew is gone, and with it the database, of which there is a backup. Devices are
    configured again from their files, as by an operator. What the edge no longer kept would be what is missing in the
    middle of this: its older half comes only at the end, as from a logger's card."""
    scenario = begin()
    scenario.flows()
    kept = ("--folder", str(pipeline.folder / "backups"))
    pipeline.command("backup", "create", *kept)
    scenario.accepts()
    scenario.flows()  # stored, and in no backup
    half = dict.fromkeys(pipeline.steady, max(pipeline.load.counts().values()))
    pipeline.take_away("sink", kindly=True)
    scenario.fault()
    scenario.accepts()
    pipeline.all_is_sent()  # it is in Kafka, and nowhere else but at the edge
    pipeline.kafka.lose_everything()
    scenario.alarm("broker_unreachable")
    missing = pipeline.load.counts()
    pipeline.command("backup", "restore", "--force", *kept)
    scenario.mended()
    pipeline.kafka.start()
    pipeline.wire = Wire(pipeline.kafka.address)  # the old one's client remembers for a while that there is no topic
    pipeline.configure(*pipeline.configured.values())
    pipeline.start("sink")
    pipeline.all_is_sent()
    scenario.flows_on()

    def lost(first: dict[str, int], end: dict[str, int]) -> dict[str, int]:
        readings = {device: pipeline.lost(device, first[device], end[device]) for device in pipeline.steady}
        assert pipeline.gaps(first, end) == {device: each // len(CHANNELS) for device, each in readings.items()}
        return readings

    holes = lost(scenario.first, missing)
    begins, ends = min(scenario.first.values()), max(missing.values()) + 1
    older = lost(scenario.first, half)
    assert 0 < sum(older.values()) < sum(holes.values())
    assert all(each < (missing[device] - scenario.first[device]) * len(CHANNELS) for device, each in holes.items())
    pipeline.resend(half[pipeline.steady[0]], ends)
    pipeline.must(
        lambda: not any(pipeline.lost(device, half[device], missing[device]) for device in pipeline.steady),
        what="what the edge still had is stored",
    )
    assert lost(scenario.first, half) == older
    pipeline.resend(begins, ends)
    scenario.recovered()
    scenario.cleared("broker_unreachable")
    assert not any(lost(scenario.first, missing).values())
    scenario.row(
        "whole Kafka data folder lost, and the database",
        f"both gone, a backup restored: {sum(holes.values())} readings that it had not are told by imports gaps; the "
        f"newer half sent again by the edge, {sum(older.values())} stay told until they come, too",
    )

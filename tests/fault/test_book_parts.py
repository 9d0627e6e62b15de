"""The fault book: parts of the pipeline go away under load and come back. Devices notice nothing, people hear of it.

The soak draws from them for `TELLTALE_FAULT_SOAK_S`: 1,800 s in the long form, 12 s in the short one.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import psutil
import psycopg
import pytest
from book_devices import CHANNELS, Pusher
from book_pipeline import PARTITIONS, Kafka, Pipeline
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from fix_faultbook import Book
from fix_pipeline import Begin
from fix_stage import make_device
from hostile_wire import FRAMES_CORPUS
from own_servers import OwnDatabase
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


LINKS: dict[str, tuple[str, dict[str, float]]] = {
    "flapping every second": ("line refused and cut for a second, then there for a second", {}),
    "64 kbit/s": ("8,000 bytes a second each way", {"bytes_per_s": 8_000}),
    "5 % loss": (
        "of 1,400 bytes each, one in 20 waits for 0.3 s (TCP's retransmission), one in 400 breaks its connection",
        {"stall_chance": 0.05, "cut_chance": 0.0025},
    ),
    "2 s latency": ("each piece waits for a second, each way", {"delay_s": 1.0}),
}


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


SEED = 20_161_222
GROWTH_MAX, GROWTH_MB_MIN = 0.2, 40.0
"""What a process may grow from the first third to the last: caches fill. A leak of a reading each would be above it in
half an hour."""


@dataclass
class Sizes:
    """Of the processes that live through it, look by look."""

    rss_mb: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    threads: dict[str, list[int]] = field(default_factory=dict)

    def look(self, pipeline: Pipeline) -> None:
        pids = {"edge": os.getpid(), **{name: service.pid for name, service in pipeline.running.items()}}
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                size, files, threads = process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()
            except psutil.Error:  # it has just ended
                continue
            who = f"{name} {pid}"
            self.rss_mb.setdefault(who, []).append(size)
            self.files.setdefault(who, []).append(files)
            self.threads.setdefault(who, []).append(threads)

    def thirds(self, what: dict[str, list[float]] | dict[str, list[int]]) -> dict[str, tuple[float, float]]:
        """Medians of the second and the last third: the first is warming up."""
        return {
            who: (median(seen[len(seen) // 3 : 2 * len(seen) // 3]), median(seen[2 * len(seen) // 3 :]))
            for who, seen in what.items()
            if len(seen) >= 9
        }

    def assert_flat(self) -> None:
        for who, (before, after) in self.thirds(self.rss_mb).items():
            assert after < max(before * (1 + GROWTH_MAX), before + GROWTH_MB_MIN), f"{who}: {before} to {after} MB"
        for what in (self.files, self.threads):
            for who, (before, after) in self.thirds(what).items():
                assert after <= before + 5, f"{who}: {before} to {after}"


@contextmanager
def held(statement: str, pipeline: Pipeline) -> Iterator[None]:
    """What a person at psql does, and forgets for a while."""
    with psycopg.connect(pipeline.database.dsn) as person:
        person.execute(statement.encode())
        yield
        person.rollback()


def neighbours_trouble(pipeline: Pipeline, pusher: Pusher) -> dict[str, Callable[[], None]]:
    """Faults that the services live through; each does its harm and undoes it."""
    kafka, database, line = pipeline.kafka, pipeline.database, pipeline.kafka.line
    hostile = Producer({**connection(kafka.address), "message.max.bytes": 4 << 20})

    def cut(times: int) -> None:
        for _ in range(times):
            line.refuses = True
            line.cut()
            time.sleep(1)
            line.heal()
            time.sleep(1)

    def bad(**about: float) -> None:
        for name, value in about.items():
            setattr(line, name, value)
        time.sleep(4)
        line.heal()

    def freeze() -> None:
        database.freeze()
        time.sleep(3)
        database.thaw()

    def lock() -> None:
        with held("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE", pipeline):
            time.sleep(3)

    def end_sessions() -> None:
        database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
            " backend_type = 'client backend'"
        )

    def restart(what: Kafka | OwnDatabase) -> None:
        what.kill()
        what.start()

    def poison() -> None:
        for entry in FRAMES_CORPUS:
            hostile.produce(READINGS_RAW, entry.data, key=b"hostile")
        assert hostile.flush(60) == 0

    def silence() -> None:
        pipeline.load.mute(pipeline.steady[0])
        time.sleep(4)
        pipeline.load.unmute(pipeline.steady[0])

    def edge() -> None:
        pusher.kill()
        pusher.start()

    return {
        "line cut": lambda: cut(1),
        "line flapping": lambda: cut(3),
        **{f"link of {name}": partial(bad, **about) for name, (_, about) in LINKS.items() if about},
        "database frozen": freeze,
        "database killed": lambda: restart(database),
        "table locked": lock,
        "database's sessions ended": end_sessions,
        "broker killed": lambda: restart(kafka),
        "poison of every kind": poison,
        "a silent device": silence,
        "edge killed": edge,
    }


def services_trouble(pipeline: Pipeline) -> dict[str, Callable[[], None]]:
    """Faults that end services."""

    def frozen(name: str) -> None:
        victim = pipeline.running[name]
        victim.freeze()
        time.sleep(8)  # its session is over, and nobody else is there: it is woken, and ends or goes on
        victim.wake()

    def restarted(name: str) -> None:
        pipeline.take_away(name, kindly=True)
        pipeline.start(name)

    return {
        "sink killed": lambda: pipeline.kill("sink"),
        "worker killed": lambda: pipeline.kill("streams"),
        "worker frozen past its session": lambda: frozen("streams"),
        "sink frozen past its session": lambda: frozen("sink"),
        "worker restarted": lambda: restarted("streams"),
        "sink restarted": lambda: restarted("sink"),
    }


@pytest.mark.usefixtures("long_form")
def test_soak(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    length_s = book.soak_s
    dice, done, sizes, lags = random.Random(SEED), Counter[str](), Sizes(), list[float]()
    pipeline.configure(make_device("soaked", len(CHANNELS)))
    pusher = Pusher(pipeline.kafka.line.address, pipeline.folder, "soaked")
    of_neighbours, of_services = neighbours_trouble(pipeline, pusher), services_trouble(pipeline)
    scenario = begin(*pipeline.steady, "soaked")
    pusher.start()
    scenario.fault()
    until = time.monotonic() + length_s
    while time.monotonic() < until:
        lags.append(scenario.flows())
        sizes.look(pipeline)
        left = until - time.monotonic()
        # The second half leaves the services alone, so that their sizes can be compared.
        faults = of_neighbours | of_services if left > length_s / 2 else of_neighbours
        drawn = dice.choice(list(faults))
        book.say(f"{left:5.0f} s left, live data stored after {lags[-1]:.1f} s; {drawn}")
        faults[drawn]()
        done[drawn] += 1
        for _ in range(3):
            time.sleep(1)
            sizes.look(pipeline)
    scenario.mended()
    pusher.kill()
    scenario.ends["soaked"] = pusher.drained()
    scenario.recovered()
    scenario.all_is_over()
    if book.is_long:
        sizes.assert_flat()
    mid = len(lags) // 2
    grown = ", ".join(
        f"{who.partition(' ')[0]} {before:.0f} to {after:.0f} MB"
        for who, (before, after) in sizes.thirds(sizes.rss_mb).items()
    )
    scenario.row(
        "soak with random faults",
        f"{length_s:.0f} s: {', '.join(f'{count} x {name}' for name, count in sorted(done.items()))}. Live data was "
        f"stored after {median(lags[:mid] or lags):.1f} s (median, first half) and {median(lags[mid:]):.1f} s (second)"
        + (f"; {grown}; file handles and threads level" if grown else ""),
        seed=SEED,
    )


@pytest.mark.usefixtures("long_form")
def test_kafkas_data_lost(pipeline: Pipeline, begin: Begin) -> None:
    """The last: what Kafka alone knew is gone. Devices are configured again from their files, as by an operator."""
    scenario = begin()
    pipeline.take_away("sink", kindly=True)
    scenario.fault()
    scenario.accepts()
    pipeline.all_is_sent()  # it is in Kafka, and nowhere else but at the edge
    pipeline.kafka.lose_everything()
    scenario.alarm("broker_unreachable")
    missing = pipeline.load.counts()
    scenario.mended()
    pipeline.kafka.start()
    pipeline.configure(*pipeline.configured.values())
    pipeline.start("sink")
    pipeline.all_is_sent()
    scenario.flows_on()
    told = pipeline.gaps(scenario.first, missing)
    holes = {device: pipeline.lost(device, scenario.first[device], missing[device]) for device in pipeline.steady}
    assert told == {device: lost // len(CHANNELS) for device, lost in holes.items()}
    pipeline.resend(min(scenario.first.values()), max(missing.values()) + 1)
    scenario.recovered()
    scenario.cleared("broker_unreachable")
    assert pipeline.gaps(scenario.first, missing) == dict.fromkeys(pipeline.steady, 0)
    scenario.row(
        "whole Kafka data folder lost",
        f"deleted with {sum(holes.values())} readings that only Kafka and the edge had: reported by imports gaps, sent "
        "again by the edge",
    )

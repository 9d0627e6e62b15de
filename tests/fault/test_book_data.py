"""The fault book: devices that stop, lie, are two, or send what is no reading; and our own bugs. The others go on.

On the session's broker and database: nothing here harms them.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from book_devices import CHANNELS, Load, rows_of, series
from book_pipeline import GivenDatabase, GivenKafka, Pipeline
from book_scenario import Scenario
from confluent_kafka import Producer
from fix_faultbook import Book
from fix_imports import HEADER, lines, mast, statuses
from fix_pipeline import Begin
from fix_stack import empty_broker
from fix_stage import START_US, US, make_device
from hostile_wire import FRAMES_CORPUS
from psycopg import sql
from small_disk import make_room, small_disk
from wrong_clock import wrong_clock

from infra import ports
from infra.postgres import server
from infra.provision import provision
from producers import edge as edges
from producers.spool import Rows
from schemas.devices import AlarmRule, Sensor, Station
from schemas.limits import FlatLine, GrossRange, Limits, Spike
from schemas.records import Rejected
from schemas.topics import READINGS_RAW, READINGS_REJECTED
from streams.alarms.silence import HELD_US_MIN

pytestmark = [pytest.mark.integration, pytest.mark.fault]

SILENCE_S = 4.0


@pytest.fixture(scope="module")
def running_pipeline(kafka: str, database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """On servers that others use afterwards."""
    empty_broker(kafka)
    provision(kafka, partitions=4)
    server.ensure_database(database_server, "fault_book")
    dsn = database_server.rpartition("/")[0] + "/fault_book"
    services = {name: (name, "run") for name in ("streams", "sink", "imports", "watchdog")}
    made = Pipeline(tmp_path_factory.mktemp("book"), GivenKafka(kafka), GivenDatabase(dsn), services=services)
    try:
        yield made
    finally:
        made.close()
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier("fault_book")))


def station(name: str) -> Station:
    return Station(station_id=name, name=name)


def load_of(pipeline: Pipeline, *devices: str, name: str, **settings: Any) -> Load:
    """An edge of their own."""
    return Load(pipeline.kafka.address, pipeline.folder / f"spool-{name}", devices, **settings)


def test_devices_fall_silent(pipeline: Pipeline, book: Book) -> None:
    """One device, a whole station, and one that never spoke: an alarm each, and one only."""
    facts = {"silence_limit_s": SILENCE_S}
    pipeline.configure(
        make_device("one", station=station("alone"), **facts),
        *(make_device(f"of-{number}", station=station("hill"), **facts) for number in range(2)),
    )
    load = load_of(pipeline, "one", "of-0", "of-1", name="silent")
    try:
        whose = {"one": ["one"], "hill": ["of-0", "of-1"], "never": []}
        scenarios = {
            name: Scenario(pipeline, book, [*devices, *pipeline.steady], load) for name, devices in whose.items()
        }
        scenarios["never"].fault()
        pipeline.configure(make_device("never", station=station("empty"), **facts))
        load.mute("one", "of-0", "of-1")
        for name in ("one", "hill"):
            scenarios[name].fault()
        scenarios["one"].alarm("device_silent", source="device/one")
        scenarios["hill"].alarm("station_silent", source="station/hill")
        scenarios["never"].alarm("device_silent", source="device/never")
        scenarios["one"].flows()
        for each in scenarios.values():
            each.mended()
        load.unmute("one", "of-0", "of-1")
        never = load_of(pipeline, "never", name="never")
        try:
            for name in ("one", "hill"):
                scenarios[name].recovered()
            scenarios["one"].cleared("device_silent", source="device/one")
            scenarios["hill"].cleared("station_silent", source="station/hill")
            scenarios["never"].cleared("device_silent", source="device/never")
        finally:
            never.close()
        assert [name for name in whose["hill"] if is_told_alone(pipeline, name, scenarios["hill"].began)] == []
        scenarios["one"].row("one device stops", f"no readings and no heartbeats; limit {SILENCE_S:g} s")
        scenarios["hill"].row("a whole station stops", f"its two devices at once; limit {SILENCE_S:g} s; one alarm")
        scenarios["never"].row("a configured device never starts", f"limit {SILENCE_S:g} s from its configuration on")
    finally:
        load.close()


def is_told_alone(pipeline: Pipeline, name: str, since: float) -> bool:
    """Whether a device of a silent station had an alarm of its own, although the station's came while it was held back.

    A station's devices are judged by several partitions; one that a busy machine judges later than that is too late.
    """
    source = f"device/{name}"
    held, raised = (
        pipeline.alarms.first("device_silent", state, since=since, source=source) for state in ("suppressed", "raised")
    )
    whole = pipeline.alarms.first("station_silent", "raised", since=since, source="station/hill")
    assert whole is not None
    return raised is not None and (held is None or whole - held < HELD_US_MIN / 1e6)


def sensor(channel: str, **about: Any) -> Sensor:
    return Sensor(
        channel=channel, point=channel, quantity="wind_speed", unit="m/s", statistic="avg", windows_s=(60,), **about
    )


REJECTED = AlarmRule.model_validate({"name": "rejected_share", "kind": "rejected_share", "limit": 0.1})
QUALITY = AlarmRule.model_validate({"name": "quality_share", "kind": "quality_share", "limit": 0.5, "window_s": 60})


def test_wrong_values_are_flagged(pipeline: Pipeline, begin: Begin) -> None:
    """Wrong units by a factor, and a value that stands still: an alarm of that sensor, and the rest stays good."""
    limits = (Limits(gross_range=GrossRange(fail=(0, 75))), Limits(flat_line=FlatLine(tolerance=0.001, fail_s=10)))
    pipeline.configure(
        make_device(
            "wrong",
            sensors=(
                sensor("c0", limits=limits[0], alarm_rules=(QUALITY,)),
                sensor("c1", limits=limits[1], alarm_rules=(QUALITY,)),
                sensor("c2", limits=limits[0], alarm_rules=(QUALITY,)),
            ),
        )
    )
    scenario = begin()
    rows = rows_of("wrong", 0, 600)
    rows.values[:, :] = 10 + np.arange(600)[:, None] % 7
    right = rows.values.copy()
    rows.values[100:400, 0] *= 3.6 * 9  # as km/h in a column of m/s, and more
    rows.values[100:400, 1] = 11.5
    edge = load_of(pipeline, name="wrong")
    scenario.fault()
    edge.edge.accept_rows([Rows("wrong", rows.times[:400], CHANNELS, rows.values[:400])])
    try:
        scenario.alarm("quality_share", source="device/wrong/c0")
        scenario.alarm("quality_share", source="device/wrong/c1")
        scenario.mended()
        edge.edge.accept_rows([Rows("wrong", rows.times[400:], CHANNELS, rows.values[400:])])
        scenario.cleared("quality_share", source="device/wrong/c0")
        scenario.cleared("quality_share", source="device/wrong/c1")
    finally:
        edge.close()
    pipeline.must(lambda: pipeline.stored("wrong", 0, 600) == 600, what="all are stored")
    found = pipeline.database.rows(
        "SELECT channel, (extract(epoch FROM time) - %s)::int, logged, quality FROM readings JOIN sensors"
        " USING (sensor_id) WHERE device_id = 'wrong'",
        START_US // US,
    )
    assert len(found) == 1800
    for channel, number, logged, quality in found:
        column = int(channel[1:])
        assert logged == rows.values[number, column]
        if column == 2 or not 100 <= number < 400:
            assert (logged, quality) == (right[number, column], 1)
        elif column == 0 or number >= 112:
            assert quality == 4
    assert {e.data.source for e in pipeline.alarms.since(scenario.began) if e.data.rule == "quality_share"} == {
        "device/wrong/c0",
        "device/wrong/c1",
    }
    scenario.others = 1800
    scenario.row(
        "incorrect data: wrong unit, stuck value", "300 of 600 rows by a factor or of one value: failed, stored"
    )


def rejected(pipeline: Pipeline, **wanted: str) -> list[Rejected]:
    found = [pipeline.wire.codec.decode(Rejected, m.value()) for m in pipeline.wire.read(READINGS_REJECTED)]
    return [each for each in found if all(str(getattr(each, name)) == value for name, value in wanted.items())]


def unreadable(pipeline: Pipeline) -> list[Rejected]:
    return [each for each in rejected(pipeline) if str(each.reason).startswith("unreadable")]


def strangers(pipeline: Pipeline) -> list[Rejected]:
    return [*unreadable(pipeline), *rejected(pipeline, reason="wrong_key")]


def await_fate(pipeline: Pipeline, device: str, reason: str, refused: int, stored: int) -> None:
    """So many of the device's readings are rejected for this reason, and so many stored."""

    def happened() -> bool:
        told = sum(each.rows for each in rejected(pipeline, device_id=device, reason=reason))
        [[there]] = pipeline.database.rows(
            "SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE device_id = %s", device
        )
        return (told, there) == (refused, stored)

    pipeline.must(happened, what=f"{device}: {refused} readings refused as {reason}, {stored} stored")


def test_times_that_cannot_be(pipeline: Pipeline, begin: Begin) -> None:
    """Of a clock without battery, and of one that was set to the wrong century: refused, the right ones are not."""
    wrong = {"of-1970": (0, "time_before_device"), "of-2100": (4_102_444_800, "time_in_future")}
    pipeline.configure(*(make_device(device, alarm_rules=(REJECTED,)) for device in wrong))
    scenario, numbers = begin(), np.arange(20)
    load = load_of(pipeline, name="wrong-times")
    scenario.fault()
    try:
        for device, (first_s, _) in wrong.items():
            load.edge.accept_rows([Rows(device, (first_s + numbers) * US, CHANNELS, series(numbers))])
            load.edge.accept_rows([rows_of(device, 0, 20)])
        for device in wrong:
            scenario.alarm("rejected_share", source=f"device/{device}")
        scenario.mended()
        load.edge.accept_rows([rows_of(device, 20, 20) for device in wrong])
        for device in wrong:
            scenario.cleared("rejected_share", source=f"device/{device}")
    finally:
        load.close()
    for device, (_, reason) in wrong.items():
        await_fate(pipeline, device, reason, refused=60, stored=120)
        assert pipeline.lost(device, 0, 40) == 0
    scenario.others = 2 * (60 + 120)
    scenario.row(
        "incorrect data: times of 1970 and of 2100", "20 of 60 rows of two devices: refused with their reason, told of"
    )


@pytest.mark.parametrize(("called", "ahead_s"), [("ahead", 3600.0), ("behind", -3600.0)])
def test_clock_of_an_edge_is_wrong(
    pipeline: Pipeline, begin: Begin, monkeypatch: pytest.MonkeyPatch, called: str, ahead_s: float
) -> None:
    device = f"clock-{called}"
    pipeline.configure(make_device(device))
    scenario, right = begin(), edges.wall_clock_us
    off = {"us": int(ahead_s * US)}
    monkeypatch.setattr(edges, "wall_clock_us", lambda: right() + off["us"])
    scenario.fault()
    load = load_of(pipeline, name=device)
    sent = 0
    try:
        for number in range(20):
            at = edges.wall_clock_us() + number * 1000
            load.edge.accept_rows([Rows(device, np.array([at]), CHANNELS, series(np.array([number])))])
            sent += 1
        scenario.alarm("clock_skew", source=f"device/{device}")
        scenario.mended()
        off["us"] = 0  # as NTP does
        scenario.cleared("clock_skew", source=f"device/{device}")
    finally:
        load.close()
    wanted = (sent * 3, 0) if ahead_s > 0 else (0, sent * 3)
    await_fate(pipeline, device, "time_in_future", *wanted)
    told = "refused as time_in_future" if ahead_s > 0 else "stored where its stamps say"
    scenario.others = sent * 3
    scenario.row(f"clock of an edge an hour {called}", f"20 rows, {told}; then set right")


def test_clock_of_a_worker_is_wrong(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    """Times are judged by the broker's stamps, so the worker's own clock moves no reading."""
    for ahead_s in (3600, -3600) if book.is_long else (3600,):
        pipeline.take_away("streams", kindly=True)
        pipeline.start("streams", **wrong_clock(pipeline.folder, ahead_s)).await_ready()
        scenario = begin()
        scenario.fault()
        scenario.flows()
        pipeline.take_away("streams", kindly=True)
        scenario.mended()
        pipeline.start("streams").await_ready()
        scenario.recovered()
        scenario.row(f"clock of a worker an hour {'ahead' if ahead_s > 0 else 'behind'}", "set by a preloaded library")


def test_hostile_corpus(pipeline: Pipeline, begin: Begin) -> None:
    scenario, before = begin(), len(unreadable(pipeline))
    scenario.fault()
    producer = Producer({"bootstrap.servers": pipeline.kafka.address, "message.max.bytes": 4 << 20})
    for entry in FRAMES_CORPUS:
        producer.produce(READINGS_RAW, entry.data, key=b"hostile")
    assert producer.flush(60) == 0
    wanted = len(FRAMES_CORPUS)
    pipeline.must(lambda: len(unreadable(pipeline)) == before + wanted, what="all are rejected")
    scenario.alarm("records_rejected", source="device/hostile")
    scenario.mended()
    scenario.recovered()
    scenario.cleared("records_rejected", source="device/hostile")
    scenario.row("poison of every kind", f"{wanted} records of the hostile corpus: each in readings.rejected")


def test_fake_pusher_with_every_fault(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    seed, minutes = 11, 240 if book.is_long else 15
    scenario, truth, before = begin(), pipeline.folder / "truth.jsonl", len(strangers(pipeline))
    names = (
        "stuck spike drift nonsense jitter clock_jump gap silence duplicate out_of_order flood wrong_device bad_bytes"
    )
    scenario.fault()
    said = json.loads(
        pipeline.command(
            *("edge", "simulate", "--devices", "3", "--rate", "1", "--fast", "--duration", f"{minutes}m", "--json"),
            *("--faults", ",".join(f"{name}:0.01" for name in names.split()), "--seed", str(seed)),
            *("--start", "2024-03-01T00:00Z", "--truth", str(truth), "--spool", str(pipeline.folder / "spool-sim")),
        )
    )
    wanted: dict[Any, float] = {}
    sent = Counter[Any]()
    for line in truth.read_text().splitlines():
        rows = json.loads(line).get("rows")
        for at, values in zip(rows["times"], rows["values"], strict=True) if rows else ():
            told = {(rows["device"], c, at): v for c, v in zip(rows["channels"], values, strict=True)}
            wanted |= told
            sent.update(told.keys())

    def stored() -> dict[Any, float]:
        found = pipeline.database.rows(
            "SELECT device_id, channel, (extract(epoch FROM time) * 1000000)::int8, logged FROM readings"
            " JOIN sensors USING (sensor_id) WHERE device_id LIKE 'sim-%%'"
        )
        return {row[:3]: row[3] for row in found}

    pipeline.must(lambda: len(stored()) >= len(wanted), what="all is stored")
    assert stored() == wanted
    strange = said["total"]["strange"]
    pipeline.must(lambda: len(strangers(pipeline)) == before + strange, what="strange frames are rejected")
    scenario.mended()
    scenario.others, scenario.sent = len(wanted), dict(sent)
    scenario.row(
        "fake pusher, every named fault",
        f"{said['total']['faults']} faults of 13 kinds in {said['total']['rows']} rows of 3 devices; {strange} records "
        "that are none of theirs rejected",
        seed=seed,
    )


def test_one_device_id_on_two_machines(pipeline: Pipeline, begin: Begin) -> None:
    """Two spools, told apart: what both send is stored. Where both have a row of one time, the later one stands."""
    pipeline.configure(make_device("twin"))
    scenario = begin()
    scenario.fault()
    machines = [load_of(pipeline, name=f"twin-{number}") for number in range(2)]
    try:
        for first in range(0, 200, 10):
            for number, machine in enumerate(machines):
                machine.edge.accept_rows([rows_of("twin", first + 5 * number, 5)])
        scenario.alarm("duplicate_device", source="device/twin")
    finally:
        pipeline.must(lambda: all(machine.edge.drained for machine in machines), what="drained")
        for machine in machines:
            machine.close()
    pipeline.must(lambda: pipeline.stored("twin", 0, 200) == 200, what="all are stored")
    assert pipeline.lost("twin", 0, 200) == 0
    scenario.mended()
    scenario.others = 600
    scenario.row("one device id on two machines", "two spools of one device, five rows of one, five of the other")


PLANTED = {
    "streams": """
import streams.quality.spike as place
def strike(*_, **__): raise ZeroDivisionError("planted")
place.spikes = strike
""",
    "sink": """
import sinks.timescale.decode as place
right = place.Decoder.bodies
def strike(self, records):
    if any(each.key == b"cursed" and each.topic == "readings.clean" for each in records):
        raise ZeroDivisionError("planted")
    return right(self, records)
place.Decoder.bodies = strike
""",
}


def planted(pipeline: Pipeline, name: str) -> dict[str, str]:
    """The environment in which a service has a bug."""
    place = pipeline.folder / f"planted-{name}"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(PLANTED[name])
    return {"PYTHONPATH": str(place)}


def test_a_bug_in_a_quality_test(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    """Of one sensor: its device's frames wait among the rejected, everybody else's go on."""
    spiky = Limits(spike=Spike(suspect=1000.0))
    pipeline.configure(make_device("buggy", sensors=(sensor("c0", limits=spiky), sensor("c1"), sensor("c2"))))
    pipeline.take_away("streams", kindly=True)
    pipeline.start("streams", **planted(pipeline, "streams")).await_ready()
    scenario = begin()
    load = load_of(pipeline, name="buggy")
    scenario.fault()
    try:
        load.edge.accept_rows([rows_of("buggy", 0, 50)])
        scenario.alarm("frames_throw", source="device/buggy")
        scenario.flows()
        assert {each.reason for each in rejected(pipeline, device_id="buggy")} == {"our_error"}
        pipeline.take_away("streams", kindly=True)
        scenario.mended()
        pipeline.start("streams").await_ready()
        pipeline.command("rejected", "retry", "--device", "buggy")
        pipeline.must(lambda: pipeline.stored("buggy", 0, 50) == 50, what="what was rejected is stored")
        load.edge.accept_rows([rows_of("buggy", 50, 1)])
        scenario.recovered_s = time.monotonic() - scenario.mended_at
        if book.is_long:  # a minute without one that throws
            scenario.cleared("frames_throw", source="device/buggy")
    finally:
        load.close()
    found = pipeline.database.rows(
        "SELECT logged FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'buggy' AND channel = 'c0'"
        " ORDER BY time LIMIT 50"
    )
    assert [logged for (logged,) in found] == series(np.arange(50))[:, 0].tolist()
    scenario.others, scenario.corrected = 150, "buggy"
    scenario.row(
        "a bug in a quality test, for one sensor",
        "spike test throws; mended, the rejected sent again by an operator",
    )


def test_a_bug_in_the_sink(pipeline: Pipeline, begin: Begin) -> None:
    """On one record: it ends, acknowledges nothing, and the record is stored once the bug is mended."""
    pipeline.configure(make_device("cursed"))
    pipeline.take_away("sink", kindly=True)
    pipeline.start("sink", **planted(pipeline, "sink")).await_ready()
    scenario = begin()
    before = pipeline.restarts["sink"]
    load = load_of(pipeline, name="cursed")
    scenario.fault()
    try:
        load.edge.accept_rows([rows_of("cursed", 0, 50)])
        pipeline.must(lambda: pipeline.restarts["sink"] > before, what="the sink ends")
        scenario.alarm("no_progress", source="telltale-sink")
        assert pipeline.stored("cursed", 0, 50) == 0
        scenario.accepts()
        pipeline.take_away("sink")
        scenario.mended()
        pipeline.start("sink")
        pipeline.must(lambda: pipeline.stored("cursed", 0, 50) == 50, what="it is stored")
        scenario.recovered()
        scenario.cleared("no_progress", source="telltale-sink")
    finally:
        load.close()
    assert pipeline.lost("cursed", 0, 50) == 0
    scenario.others = 150
    scenario.row("a bug in the sink, for one record", "decoding throws: it ends, acknowledges nothing; then mended")


WRONG_FILES = {
    # name: (bytes, state that is shown, cells with problems, what is said)
    "columns.dat": (HEADER.replace("Spd80mN", "Spd99") + lines(0, 5), "unknown", 0, "no channel for Spd99"),
    "nonsense.csv": ("a,b,c\n1,2,3\nx,y,z\n", "refused", 0, "of no known format"),
    "text.dat": (
        HEADER + lines(0, 5) + '"2020-01-01 00:50:00",5,"broken",3\r\n' + lines(6, 5),
        "stored",
        1,
        "",
    ),
}


def test_wrong_files(pipeline: Pipeline, begin: Begin) -> None:
    """Uploaded: told by line and reason, an alarm for each that is not imported, what is right in them stored."""
    pipeline.configure(mast("file-mast"))
    scenario = begin()
    inbox = pipeline.stack / "incoming" / "anna"
    inbox.mkdir(parents=True)
    scenario.fault()
    for name, (text, *_) in WRONG_FILES.items():
        (inbox / f".{name}.json").write_text('{"device": "file-mast"}')
        (inbox / name).write_bytes(text.encode())

    def state(name: str) -> str:
        found = statuses(pipeline.kafka.address).get(name)
        return str(found.state) if found else "none"

    for name, (_, wanted, problems, said) in WRONG_FILES.items():
        pipeline.must(lambda name=name, wanted=wanted: state(name) == wanted, what=f"{name} {wanted}")
        status = statuses(pipeline.kafka.address)[name]
        assert said in (status.reason or ""), status
        assert (status.problems, status.missing) == (problems, problems), status
    scenario.alarm("import_refused")
    scenario.alarm("not_imported")
    scenario.mended()
    for name in ("columns.dat", "nonsense.csv"):
        (inbox / name).unlink(missing_ok=True)
        pipeline.command("imports", "forget", statuses(pipeline.kafka.address)[name].sha256)
    scenario.cleared("import_refused")
    scenario.cleared("not_imported")
    stored = pipeline.database.rows(
        "SELECT channel, count(*), count(*) FILTER (WHERE quality = 9) FROM readings JOIN sensors USING (sensor_id)"
        " WHERE device_id = 'file-mast' GROUP BY 1 ORDER BY 1"
    )
    assert stored == [("Dir78mS", 11, 0), ("Spd80mN", 11, 1)]
    scenario.others = 22
    scenario.row(
        "incorrect data: files", "wrong columns, no known format, text among the numbers (missing, told with its line)"
    )


def test_nothing_is_uploaded(pipeline: Pipeline, begin: Begin) -> None:
    pipeline.configure(mast("late-mast", loggers=(mast().loggers[0].model_copy(update={"serial": "E7001"}),)))
    pipeline.take_away("imports", kindly=True)
    scenario = begin()
    scenario.fault()
    pipeline.start("imports", TELLTALE_IMPORT_EXPECT="late-mast=0.0005")
    scenario.alarm("not_uploaded", source="device/late-mast")
    scenario.mended()
    inbox = pipeline.stack / "incoming" / "otto"
    inbox.mkdir(parents=True)
    (inbox / "late.dat").write_bytes((HEADER.replace("E7000", "E7001") + lines(0, 5)).encode())
    scenario.cleared("not_uploaded", source="device/late-mast")
    scenario.others = 10
    pipeline.must(
        lambda: (
            pipeline.database.rows(
                "SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'late-mast'"
            )
            == [(10,)]
        ),
        what="stored",
    )
    scenario.row("readings not uploaded", "a device that uploads files brings none in time; then one comes")


def test_a_source_of_the_edge_fails(pipeline: Pipeline, begin: Begin) -> None:
    """What fetches a device's readings is down, then works."""
    pipeline.configure(make_device("fetcher"))
    rows, config = pipeline.folder / "fetched", pipeline.folder / "edge.toml"
    config.write_text(
        f'device = "fetcher"\nspool = "{pipeline.folder / "spool-fetcher"}"\n'
        f'[[source]]\nkind = "exec"\ncommand = ["sh", "-c", "cat {rows} && sleep 1000"]\n'
    )
    scenario = begin()
    scenario.fault()
    pipeline.services["edge"] = ("edge", "run", "-c", str(config))
    try:
        pipeline.start("edge", TELLTALE_EDGE_HEARTBEAT_S="1", TELLTALE_EDGE_RESTART_S_MAX="1")
        scenario.alarm("source_failed", source="device/fetcher")
        scenario.mended()
        rows.write_text("".join(f"{START_US // US + n},c0,{n}\n" for n in range(20)))
        scenario.cleared("source_failed", source="device/fetcher")
        there = "SELECT logged FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'fetcher' ORDER BY time"
        pipeline.must(lambda: len(pipeline.database.rows(there)) == 20, what="what it fetched is stored")
    finally:
        pipeline.take_away("edge", kindly=True)
        del pipeline.services["edge"]
    assert [logged for (logged,) in pipeline.database.rows(there)] == list(range(20))
    scenario.others = 20
    scenario.row("fetcher down", "the program that fetches a device's readings ends with an error; then it works")


def test_disk_of_backups_and_exports_is_full(pipeline: Pipeline, begin: Begin) -> None:
    """They fail with a reason and leave nothing half done, readings go on; with room the next of each works."""
    scenario = begin()
    with small_disk(pipeline.folder / "small", "32k") as small:
        out, backups = small / "out.csv", small / "backups"
        work = (
            ("backup", "run", "--once", "--folder", str(backups)),
            ("export", "csv", "--station", "mast", "--zone", "UTC", "--out", str(out)),
        )
        about = {"TELLTALE_BACKUP_EVERY": "1h"}
        scenario.fault()
        for words in work:
            pipeline.command(*words, code=1, **about)
        for rule in ("backup_failed", "export_failed"):
            scenario.alarm(rule)
        assert not out.exists()
        assert not [path for path in backups.iterdir() if path.is_dir()]
        scenario.accepts()
        scenario.mended()
        make_room(small, "64m")
        for words in work:
            pipeline.command(*words, **about)
        for rule in ("backup_failed", "export_failed"):
            scenario.cleared(rule)
        scenario.recovered()
        assert len(out.read_text().splitlines()) > 100
    scenario.row(
        "disk full: backups and exports", "a disk of 32 kB: both fail and leave nothing; then room, and both work"
    )


def test_disk_of_imports_is_full(pipeline: Pipeline, begin: Begin) -> None:
    """Files wait and uploads are refused, nothing is left half done, readings go on; with room all of it is taken."""
    pipeline.configure(mast("full-mast", loggers=(mast().loggers[0].model_copy(update={"serial": "E7002"}),)))
    header = HEADER.replace("E7000", "E7002")
    scenario = begin()
    with small_disk(pipeline.folder / "imports-disk", "64k") as small:
        about = {"TELLTALE_IMPORT_ARCHIVE": str(small / "archive"), "TELLTALE_IMPORT_INCOMING": str(small / "incoming")}
        inbox = small / "incoming" / "otto"
        inbox.mkdir(parents=True)
        (inbox / "waits.dat").write_bytes((header + lines(0, 1000)).encode())
        port = ports.free()
        pipeline.services["dashboard"] = ("dashboard", "run", "--port", str(port))
        pipeline.take_away("imports", kindly=True)
        scenario.fault()
        try:
            pipeline.start("imports", **about)
            pipeline.start("dashboard", **about).await_ready()
            token = json.loads(pipeline.command("token", "create", "otto", "--scope", "import", "--json"))["token"]

            def upload() -> int:
                return httpx.post(
                    f"http://127.0.0.1:{port}/api/v1/imports?name=uploaded.dat",
                    content=(header + lines(1000, 5)).encode(),
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=60,
                ).status_code

            for source in ("imports/waiting", "imports/uploads"):
                scenario.alarm("imports_blocked", source=source)
            assert upload() == 503
            pipeline.must(lambda: [path.name for path in small.rglob("*.*")] == ["waits.dat"], what="nothing half done")
            scenario.accepts()
            scenario.mended()
            make_room(small, "1g")
            for source in ("imports/waiting", "imports/uploads"):
                scenario.cleared("imports_blocked", source=source)
            assert upload() == 202
            there = "SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'full-mast'"
            pipeline.must(lambda: pipeline.database.rows(there) == [(2 * 1005,)], what="both files are stored")
            scenario.recovered()
        finally:
            pipeline.take_away("dashboard", kindly=True)
            del pipeline.services["dashboard"]
            pipeline.take_away("imports", kindly=True)
            pipeline.start("imports")
    scenario.others = 2 * 1005
    scenario.row("disk full: imports", "the archive's disk is full: files wait, an upload is answered 503; then room")


def test_backlog_is_drained_while_live_data_flows(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    devices, rows, step_s = (100, 8_640, 10) if book.is_long else (10, 3_600, 1)
    names = [f"back-{number}" for number in range(devices)]
    pipeline.configure(*(make_device(name, interval_s=step_s) for name in names))
    away = Load("127.0.0.1:9", pipeline.folder / "spool-backlog", [])  # a line that leads nowhere
    for first in range(0, rows, 60):
        away.edge.accept_rows([rows_of(name, first, 60, step_s=step_s) for name in names])
    away.close()
    scenario = begin()
    scenario.fault()
    scenario.mended()
    load = load_of(pipeline, name="backlog")
    waited = []
    try:
        while not load.edge.drained:
            waited.append(scenario.flows())
            sent = sum(load.edge.counts(name).sent for name in names)
            book.say(f"live data stored after {waited[-1]:.1f} s, {sent:,} sent")
        for name in names:
            pipeline.must(
                lambda name=name: pipeline.stored(name, 0, rows, step_s=step_s) == rows,
                what=f"{name} stored",
                within_s=900,
            )
    finally:
        load.close()
    scenario.recovered_s = time.monotonic() - scenario.mended_at
    assert sum(pipeline.lost(name, 0, rows, step_s=step_s) for name in names) == 0
    scenario.others = devices * rows * len(CHANNELS)
    slowest = f"; live rows stored after {max(waited):.1f} s at most" if waited else ""
    scenario.row(
        f"backlog of {rows * step_s // 3600} h from {devices} devices",
        f"{devices * rows * len(CHANNELS):,} readings at once, beside live data{slowest}",
    )

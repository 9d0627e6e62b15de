"""The fault book: devices that stop, lie, are two, or send what is no reading. The others go on.

On the session's broker and database: nothing here harms them.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from book_devices import CHANNELS, rows_of, sensor, series
from book_pipeline import Pipeline
from book_scenario import Scenario
from confluent_kafka import Producer
from fix_faultbook import Book
from fix_pipeline import Begin, pipeline_on
from fix_stage import START_US, US, make_device
from hostile_wire import FRAMES_CORPUS
from wrong_clock import wrong_clock

from producers import edge as edges
from producers.spool import Rows
from schemas.devices import AlarmRule, Station
from schemas.limits import FlatLine, GrossRange, Limits
from schemas.records import Rejected
from schemas.topics import READINGS_RAW
from streams.alarms.silence import HELD_US_MIN

pytestmark = [pytest.mark.integration, pytest.mark.fault]

SILENCE_S = 4.0


@pytest.fixture(scope="module")
def running_pipeline(kafka: str, database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """On servers that others use afterwards."""
    with pipeline_on(kafka, database_server, tmp_path_factory.mktemp("book")) as made:
        yield made


def station(name: str) -> Station:
    return Station(station_id=name, name=name)


def test_devices_fall_silent(pipeline: Pipeline, book: Book) -> None:
    """One device, a whole station, and one that never spoke: an alarm each, and one only."""
    facts = {"silence_limit_s": SILENCE_S}
    pipeline.configure(
        make_device("one", station=station("alone"), **facts),
        *(make_device(f"of-{number}", station=station("hill"), **facts) for number in range(2)),
    )
    load = pipeline.load_of("one", "of-0", "of-1", name="silent")
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
        never = pipeline.load_of("never", name="never")
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
    edge = pipeline.load_of(name="wrong")
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


def unreadable(pipeline: Pipeline) -> list[Rejected]:
    return [each for each in pipeline.rejected() if str(each.reason).startswith("unreadable")]


def strangers(pipeline: Pipeline) -> list[Rejected]:
    return [*unreadable(pipeline), *pipeline.rejected(reason="wrong_key")]


def await_fate(pipeline: Pipeline, device: str, reason: str, refused: int, stored: int) -> None:
    """So many of the device's readings are rejected for this reason, and so many stored."""

    def happened() -> bool:
        told = sum(each.rows for each in pipeline.rejected(device_id=device, reason=reason))
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
    load = pipeline.load_of(name="wrong-times")
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
    load = pipeline.load_of(name=device)
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
    machines = [pipeline.load_of(name=f"twin-{number}") for number in range(2)]
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

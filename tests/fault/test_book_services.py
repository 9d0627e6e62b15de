"""The fault book: our services at their own work: bugs, files, a fetcher, a full disk, a backlog. Readings go on.

On the session's broker and database: nothing here harms them.
"""

import json
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from book_devices import CHANNELS, Load, rows_of, sensor, series
from book_pipeline import Pipeline
from fix_faultbook import Book
from fix_imports import HEADER, lines, mast, statuses
from fix_pipeline import Begin, pipeline_on
from fix_stage import START_US, US, make_device
from small_disk import make_room, small_disk

from infra import ports
from schemas.limits import Limits, Spike

pytestmark = [pytest.mark.integration, pytest.mark.fault]


@pytest.fixture(scope="module")
def running_pipeline(kafka: str, database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """On servers that others use afterwards."""
    with pipeline_on(kafka, database_server, tmp_path_factory.mktemp("book")) as made:
        yield made


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
    load = pipeline.load_of(name="buggy")
    scenario.fault()
    try:
        load.edge.accept_rows([rows_of("buggy", 0, 50)])
        scenario.alarm("frames_throw", source="device/buggy")
        scenario.flows()
        assert {each.reason for each in pipeline.rejected(device_id="buggy")} == {"our_error"}
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
    load = pipeline.load_of(name="cursed")
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
    load = pipeline.load_of(name="backlog")
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

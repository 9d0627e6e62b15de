"""Exports: what is in the files, to the byte; what is left out and why; nothing half, whatever happens."""

import csv
import io
import json
import resource
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fix_exports import BEGIN, STEPS, Exported, fill, flag, time, truth
from fix_sink import Database, until

from dashboard.exports import query
from dashboard.exports.cli import export as command_group
from dashboard.exports.making import Cancelled, export
from dashboard.exports.outputs import PARTIAL
from dashboard.exports.request import ExportRequest
from dashboard.flags import windographer as flag_log
from schemas.errors import Refused
from schemas.iea.convert import Answers, devices_of
from schemas.json_file import JsonFile
from sinks.timescale.upkeep import refresh

pytestmark = pytest.mark.integration

EVERY_FORMAT = ("windographer", "csv", "parquet", "zip")
FIVE = ("Spd80", "Spd80Max", "Dir78", "T2", "Rain")


def table(path: Path, *, delimiter: str = ",") -> dict[str, list[str]]:
    """Columns of a CSV by name, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.reader(lines, delimiter=delimiter))
    return {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}


def numbers(cells: list[str]) -> np.ndarray:
    return np.array([float(cell) if cell else np.nan for cell in cells])


def comments(path: Path) -> dict[str, str]:
    lines = [line[2:].partition(": ") for line in path.read_text().splitlines() if line.startswith("# ")]
    return {name: rest for name, _, rest in lines}


def test_windographer_text_is_laid_out_as_windographer_writes_it(exported: Exported) -> None:
    path, done = exported("windographer", quantities=["wind_speed", "wind_direction"])
    data = path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") == 13 + STEPS
    assert data.endswith(b"\r\n")
    assert not data.startswith(b"\xef\xbb\xbf")
    lines = data.decode("ascii").split("\r\n")
    assert lines[0].startswith("Created 2020-04-01 01:00:00 by Telltale ")
    assert "Windographer" in lines[0]
    assert lines[1:13] == [
        "",
        "Latitude = S 33.250000",
        "Longitude = E 18.500000",
        "Elevation = 120.5 m",
        "Calm threshold = 0 m/s",
        "",
        "Included flags: <Unflagged data>, note, suspicious",
        "Excluded flags: icing, maintenance, malfunction, tower shadow, quality suspect, quality fail, quality missing",
        "",
        "Time stamps indicate the beginning of the time step.",
        "",
        "Date/Time\tSpeed 80m N [m/s]\tSpeed 80m N Max [m/s]\tDirection 78.5m S [deg]",
    ]
    first = lines[13].split("\t")
    assert first == ["2020-03-27 01:00:00", "8", "10", "350"]  # the station's clock is an hour ahead of UTC
    assert lines[13 + 3].split("\t")[1] == ""  # failed
    assert done.rows == STEPS
    assert done.step_s == 600
    assert done.left_out == {"quality fail": 15, "quality suspect": 15}


@pytest.mark.parametrize("kind", EVERY_FORMAT)
def test_two_exports_of_the_same_are_the_same_bytes(exported: Exported, kind: str) -> None:
    flag(exported.dsn, "Spd80", 10, 20, "icing")
    first, one = exported(kind, name="one")
    second, two = exported(kind, name="two")
    assert first.read_bytes() == second.read_bytes()
    assert one.files[0].sha256 == two.files[0].sha256
    assert one.files[0].bytes == first.stat().st_size


def test_csv_holds_the_very_values_and_says_what_was_left_out(exported: Exported) -> None:
    flag(exported.dsn, "Spd80", 100, 110, "icing")
    flag(exported.dsn, "Spd80", 105, 120, "note")
    path, _ = exported("csv")
    columns, said = table(path), comments(path)
    assert set(columns) == {"time", *FIVE}
    for sensor, channel in enumerate(FIVE, 1):
        values, flags = truth(sensor)
        values = np.where(flags == 1, values, np.nan)
        if channel == "Spd80":
            values[100:110] = np.nan
        if channel == "Rain":
            values[::4] = np.nan
        np.testing.assert_array_equal(numbers(columns[channel]), values, strict=True)
    assert columns["time"] == [f"{time(step) + timedelta(hours=1):%Y-%m-%d %H:%M:%S}" for step in range(STEPS)]
    # the icing covers one that failed and one that is suspect: each reading is counted once
    assert said["left out"] == (
        "flag icing: 8 readings; quality fail: 15 readings; quality missing: 8 readings; quality suspect: 15 readings"
    )
    assert "UTC+01:00" in said["time"]
    assert said["Dir78"] == "mast/Dir78, wind_direction avg, deg, 78.5 m, boom 180 deg"


def test_flags_in_and_out_by_category(exported: Exported) -> None:
    flag(exported.dsn, "T2", 10, 12, "icing")
    flag(exported.dsn, "T2", 20, 23, "note")

    def there(**words: object) -> list[bool]:
        cells = table(exported("csv", sensors=["T2"], **words)[0])["T2"]
        return [bool(cells[step]) for step in (10, 11, 20, 22)]

    assert there() == [False, False, True, True]
    assert there(include_flags=["icing"]) == [True] * 4
    assert there(exclude_flags=["note"]) == [False] * 4
    assert there(exclude_flags=["*"], include_flags=["icing"]) == [True, True, False, False]
    assert there(quality=[9]) == [False] * 4
    both = table(exported("csv", sensors=["mast/Spd80"], quality=[1, 3, 4])[0])["Spd80"]
    np.testing.assert_array_equal(numbers(both), truth(1)[0])


def test_flag_log_stands_beside_and_our_own_import_reads_it(exported: Exported) -> None:
    flag(exported.dsn, "Spd80", 100, 112, "icing")
    flag(exported.dsn, "Dir78", 700, 9_000, "note")
    path, done = exported("windographer", name="mast", labels="channel")
    log = path.with_name("mast_flags.txt")
    assert [each.name for each in done.files] == [path.name, log.name]
    text = log.read_bytes().decode()
    assert text.splitlines()[0] == "Data Column\tFlag Name\tStart Time\tEnd Time\tTime Steps"
    assert text.splitlines()[1] == "Spd80 [m/s]\ticing\t2020-03-27 17:40:00\t2020-03-27 19:40:00\t12"
    lines = flag_log.lines(text, name="log", utc_offset=timedelta(hours=1))
    found = [(flag_log.channel_of(each.column, FIVE, {}), each.category, each.begin, each.end) for each in lines]
    assert found == [
        ("Spd80", "icing", time(100), time(112)),
        ("Dir78", "note", time(700), time(STEPS)),  # cut to the period
    ]
    _, plain = exported("windographer", name="none", flag_log=False)
    assert len(plain.files) == 1


def test_zip_holds_one_text_for_each_kind_of_sensor(exported: Exported) -> None:
    flag(exported.dsn, "T2", 10, 12, "icing")
    path, done = exported("zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        kinds = {"wind_speed", "wind_direction", "air_temperature", "precipitation"}
        assert {name.removesuffix(".txt") for name in archive.namelist()} == kinds | {"flags"}
        text = archive.read("air_temperature.txt").decode().split("\r\n")
        assert text[12] == "Date/Time\tTemperature 2m [degC]"
        np.testing.assert_array_equal(numbers([row.split("\t")[1] for row in text[13:23]]), truth(4)[0][:10])
        rain = archive.read("precipitation.txt").decode().split("\r\n")[13:-1]
        assert len(rain) == STEPS * 3 // 4
    assert done.rows == STEPS


def test_parquet_knows_units_and_where_it_is_from(exported: Exported) -> None:
    path, _ = exported("parquet", zone="Europe/Dublin", values="logged")
    read = pq.read_table(path)
    assert str(read.schema.field("time").type) == "timestamp[us, tz=Europe/Dublin]"
    assert read.column("time")[0].as_py() == BEGIN
    assert read.schema.field("Spd80").metadata[b"unit"] == b"m/s"
    assert read.schema.field("Dir78").metadata[b"height_m"] == b"78.5"
    about = json.loads(read.schema.metadata[b"telltale"])
    assert about["stations"][0]["latitude_deg"] == -33.25
    assert about["values"] == "logged"
    assert json.loads(pq.read_metadata(path).metadata[b"left_out"])["quality fail"] == 15
    rain = read.column("Rain")
    assert rain.null_count == STEPS // 4
    np.testing.assert_array_equal(read.column("Spd80Max").to_numpy(), 2 * truth(2)[0])


def test_data_model_stands_beside_the_data_as_logged(exported: Exported) -> None:
    Database(exported.dsn, migrate=False).call(
        'INSERT INTO calibrations (sensor_id, place, valid_to, logger_slope, logger_offset, slope, "offset", serial)'
        "VALUES (1, 0, '2020-03-28', 1, 0, 1.1, 0.2, '4711')"
    )
    path, done = exported("iea43", values="logged", sensors=["Spd80", "Spd80Max", "Dir78", "T2", "Rain"])
    model = path.with_name("out.json")
    assert [each.name for each in done.files] == [path.name, model.name]
    answers = Answers(configured_at=BEGIN, configured_by="test")
    (device,) = devices_of(JsonFile(model.read_bytes(), name="out.json"), answers=answers).devices
    assert sorted(sensor.channel for sensor in device.sensors) == sorted(FIVE)
    speed = next(sensor for sensor in device.sensors if sensor.channel == "Spd80")
    assert (speed.unit, speed.height_m, speed.boom_orientation_deg) == ("m/s", 80, 0)
    first = speed.calibrations[0]
    assert (first.slope, first.offset, first.serial) == (1.1, 0.2, "4711")
    assert first.valid_to == datetime(2020, 3, 28, tzinfo=UTC)
    assert not path.read_text().startswith("#")
    np.testing.assert_array_equal(numbers(table(path)["Spd80Max"]), 2 * truth(2)[0])
    with pytest.raises(ValueError, match="values and interval must be logged"):
        exported("iea43", values="calibrated")


@pytest.fixture(params=["stored", "timescaledb"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Exported:
    """A database without and one with continuous aggregates, which exports then read."""
    found = request.getfixturevalue(request.param)
    dsn = found.dsn if isinstance(found, Database) else found
    fill(dsn)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        refresh(connection)
    return Exported(dsn, tmp_path)


def test_longer_intervals_are_the_statistics_of_the_database(anywhere: Exported) -> None:
    flag(anywhere.dsn, "Spd80", 100, 112, "icing")
    views = {
        "10min": ("statistics_10min", 600),
        "hour": ("statistics_hourly", 3600),
        "day": ("statistics_daily", 86_400),
    }
    for interval, (view, step_s) in views.items():
        path, done = anywhere(
            "csv", interval=interval, zone="UTC", sensors=["Spd80", "Dir78"], figures=["mean", "sd", "min", "count"]
        )
        found = table(path)
        assert done.step_s == step_s
        for sensor, channel in ((1, "Spd80"), (3, "Dir78")):
            rows = Database(anywhere.dsn, migrate=False).rows(
                f"SELECT time, mean, sd, min, count FROM {view} WHERE sensor_id = %s ORDER BY time", sensor
            )
            said = dict(
                zip(
                    found["time"],
                    zip(*(numbers(found[f"{channel}_{f}"]) for f in ("mean", "sd", "count")), strict=True),
                    strict=True,
                )
            )
            for at, mean, sd, least, count in rows:
                row = said[f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"]
                expected = (mean, sd if sd is not None else np.nan, count)
                np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-5)  # a direction's deviation near 0
                assert (least is None) == (channel == "Dir78")
        assert "Dir78_min" not in found


def test_an_interval_continues_the_channels_own_statistic(exported: Exported) -> None:
    found = table(exported("csv", interval="day", zone="UTC")[0])
    by_day = lambda sensor: truth(sensor)[0].reshape(5, 144)  # noqa: E731
    np.testing.assert_allclose(numbers(found["Spd80Max"]), by_day(2).max(axis=1))
    rain = by_day(5).copy()
    rain[:, ::4] = 0
    np.testing.assert_allclose(numbers(found["Rain"]), rain.sum(axis=1))
    np.testing.assert_allclose(numbers(found["T2"]), np.nanmean(by_day(4), axis=1))


def test_days_of_a_zone_with_summer_time_are_as_long_as_they_are(exported: Exported) -> None:
    path, _ = exported("csv", sensors=["Spd80Max"], interval="day", figures=["count", "mean"], zone="Europe/Dublin")
    found = table(path)
    assert found["time"][:4] == [
        f"2020-03-{day} 00:00:00{'+00:00' if day < 30 else '+01:00'}" for day in (27, 28, 29, 30)
    ]
    assert found["Spd80Max_count"] == ["144", "144", "138", "144", "144", "6"]
    at = np.array([time(step).astimezone(ZoneInfo("Europe/Dublin")).day for step in range(STEPS)])
    np.testing.assert_allclose(numbers(found["Spd80Max_mean"])[2], truth(2)[0][at == 29].mean())
    with pytest.raises(Refused, match="without summer time"):
        exported("windographer", zone="Europe/Dublin")
    assert table(exported("csv", zone="Europe/Dublin", begin=time(300))[0])["time"][0] == "2020-03-29 03:00:00+01:00"


def test_period_stamps_zone_decimal_separator_and_missing_code(exported: Exported) -> None:
    path, done = exported(
        "windographer",
        sensors=["Spd80"],
        begin=time(2),
        end=time(5),
        stamp="end",
        zone="-03:30",
        decimal=",",
        separator=";",
        missing="-9999",
        labels="bare",
    )
    lines = path.read_bytes().decode().split("\r\n")
    assert "Time stamps indicate the end of the time step." in lines
    assert lines[12:] == [
        "Date/Time;Spd80",
        f"2020-03-26 21:00:00;{truth(1)[0][2]}".replace(".", ","),
        "2020-03-26 21:10:00;-9999",
        "2020-03-26 21:20:00;-9999",
        "",
    ]
    assert (done.first, done.last) == (time(2), time(4))


def test_slices_do_not_show(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [("csv", {}), ("csv", {"interval": "hour", "figures": ["mean", "sd"]}), ("windographer", {})]
    whole = [exported(kind, **words)[0].read_bytes() for kind, words in cases]
    monkeypatch.setattr(query, "READINGS_A_SLICE", 37)
    monkeypatch.setattr(query, "READINGS_MAX", 100)
    monkeypatch.setattr(query, "CELLS_MAX", 12)
    for before, (kind, words) in zip(whole, cases, strict=True):
        cut = exported(kind, **words)[0]
        if "interval" not in words:
            assert cut.read_bytes() == before
            continue
        pairs = zip(*(csv.reader(io.StringIO(text.decode())) for text in (cut.read_bytes(), before)), strict=True)
        for row, expected in pairs:
            assert row[0] == expected[0]  # means of parts that are put together differ in the last digit
            if not row[0].startswith(("#", "time")):
                np.testing.assert_allclose(numbers(row[1:]), numbers(expected[1:]), rtol=1e-9, atol=1e-6)


def test_stamps_between_seconds_stay_exact_in_csv_and_are_counted_in_windographer(exported: Exported) -> None:
    odd = time(300) + timedelta(seconds=3, microseconds=250_000)
    Database(exported.dsn, migrate=False).call(f"INSERT INTO readings VALUES (1, '{odd.isoformat()}', 1, 2.5, 1, 0)")
    cells = table(exported("csv", sensors=["Spd80"], zone="UTC")[0])
    assert cells["Spd80"][cells["time"].index("2020-03-29 02:00:03.250000")] == "2.5"
    assert cells["time"][0] == "2020-03-27 00:00:00.000000"
    path, done = exported("windographer", sensors=["Spd80"])
    assert done.left_out["rows between steps"] == 1
    assert "lie between steps" in done.notes[-1]
    assert path.read_bytes().count(b"\n") == 13 + STEPS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"station": "nope"}, "station nope: not known to the database; there are hill"),
        ({"device": "nope"}, "device nope: not known to the database; there are mast"),
        ({"station": "hill", "sensors": ["Spd8"]}, "sensor Spd8: not known; there are Dir78"),
        (
            {"station": "hill", "statistics": ["gust"]},
            "statistic gust: none of the chosen channels; there are avg, max, sum",
        ),
        (
            {"station": "hill", "quantities": ["x"]},
            "quantity x: none of the chosen channels; there are air_temperature",
        ),
        ({"station": "hill", "include_flags": ["x"]}, 'flag category "x": not known; there are icing'),
        ({"station": "hill", "begin": datetime(2021, 1, 1, tzinfo=UTC)}, "there are some from 2020-03-27 00:00:00Z to"),
        ({"station": "hill", "sensors": ["Spd80"], "quality": [2]}, None),
    ],
)
def test_what_is_not_there_is_refused_by_name(exported: Exported, words: dict[str, object], said: str | None) -> None:
    if said is None:  # all are left out: the rows are there, and empty
        assert exported("csv", **words)[1].left_out == {"quality good": 690, "quality fail": 15, "quality suspect": 15}
        return
    with pytest.raises(Refused) as refused:
        exported("csv", **words)
    assert said in str(refused.value)
    assert exported.left() == []


def test_windographer_needs_one_constant_step(exported: Exported) -> None:
    database = Database(exported.dsn, migrate=False)
    database.call("UPDATE devices SET interval_s = NULL")
    with pytest.raises(Refused, match="say --interval 10min"):
        exported("windographer")
    assert exported("windographer", interval="10min")[1].step_s == 600
    database.call("UPDATE devices SET interval_s = 10")
    with pytest.raises(Refused, match="1 minute or more"):
        exported("windographer")
    database.call('UPDATE devices SET loggers = \'[{"utc_offset_minutes": 0}, {"utc_offset_minutes": 60}]\'')
    with pytest.raises(Refused, match=r"loggers were on UTC\+00:00, UTC\+01:00; say --zone"):
        exported("csv")


CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE query LIKE '%string_agg%' AND pid <> pg_backend_pid()"""
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'telltale export'"


def run(exported: Exported, path: Path, **watching: object) -> None:
    with psycopg.connect(exported.dsn, autocommit=True, prepare_threshold=None) as connection:
        export(connection, ExportRequest(format="csv", station="hill"), path, force=True, **watching)  # type: ignore[arg-type]


def test_what_ends_an_export_leaves_nothing_and_the_old_file(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "READINGS_A_SLICE", 100)
    path = exported.folder / "out.csv"
    path.write_text("old")

    def interrupt(step: object) -> None:
        if step.share > 0.3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    def cut(step: object) -> None:
        if step.share > 0.3:  # type: ignore[attr-defined]
            Database(exported.dsn, migrate=False).rows(CUT)

    turns = iter(range(1000))
    for watching, expected in (
        ({"progress": interrupt}, KeyboardInterrupt),
        ({"progress": cut}, psycopg.OperationalError),
        ({"is_cancelled": lambda: next(turns) > 5}, Cancelled),
    ):
        with pytest.raises(expected):
            run(exported, path, **watching)
        assert exported.left() == ["out.csv"]
        assert path.read_text() == "old"
    run(exported, path)
    assert path.read_text() != "old"


def test_a_killed_exports_remains_are_written_over_and_two_do_not_write_one_file(exported: Exported) -> None:
    path = exported.folder / "out.csv"
    partial = path.with_name(PARTIAL.format(path.name))
    partial.write_text("half " * 100_000)  # as kill -9 leaves it
    run(exported, path)
    assert exported.left() == ["out.csv"]
    refusals = []

    def again(_: object) -> None:
        try:
            run(exported, path)
        except Refused as refused:
            refusals.append(str(refused))

    run(exported, path, progress=again)
    assert refusals
    assert "being written by another export" in refusals[0]


def test_full_disk_is_told_and_nothing_is_left(exported: Exported) -> None:
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    ran = exported.command("csv", "--station", "hill", "--out", "out.csv", preexec_fn=small)
    assert ran.returncode == 1, ran.stderr
    assert "nothing was left there" in ran.stderr
    assert exported.left() == []


def heed_ctrl_c() -> None:
    """A shell that runs this in the background has told its children to ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_the_statement_too(exported: Exported) -> None:
    command = [sys.executable, "-m", "infra.command", "export", "csv", "--station", "hill", "--database", exported.dsn]
    with psycopg.connect(exported.dsn) as holding:
        holding.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")  # the export waits for us
        running = subprocess.Popen(
            command,
            cwd=exported.folder,
            stderr=subprocess.PIPE,
            preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - one call
        )
        waits = OURS + " AND wait_event_type = 'Lock'"
        until(lambda: Database(exported.dsn, migrate=False).one(waits), what="the export waits")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        assert (running.returncode, said) == (130, b"\nstopped\n")
        until(lambda: not Database(exported.dsn, migrate=False).one(OURS), what="its session has ended")
    assert exported.left() == []


def test_command_makes_files_and_tells(exported: Exported) -> None:
    made = exported.command("windographer", "--station", "hill", "--sensor", "Spd*", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["rows"] == STEPS
    assert told["columns"] == ["Speed 80m N [m/s]", "Speed 80m N Max [m/s]"]
    again = exported.command("windographer", "--station", "hill")
    assert (again.returncode, again.stderr) == (2, "error: hill.txt is there already; say --force to replace it\n")
    told_in_one_line(exported)
    assert exported.left() == ["hill.txt"]


def told_in_one_line(exported: Exported) -> None:
    for words, said in (
        (("csv",), "say which station, device or sensors"),
        (("csv", "--station", "hill", "--zone", "Mars"), "--zone: Mars: expected station, UTC"),
        (("csv", "--station", "hill", "--decimal", "comma", "--separator", "comma"), "must not both be a comma"),
        (("csv", "--station", "hill", "--figure", "mean"), "figures are of longer intervals"),
        (("csv", "--station", "hill", "--out", "none/x.csv"), "no such folder"),
        (("csv", "--station", "hill", "--from", "soon"), "expected a time"),
    ):
        found = CliRunner().invoke(command_group, [*words, "--database", exported.dsn]).exception
        assert isinstance(found, Refused), words
        assert said in str(found)

"""A device that is taken out while its station is silent: what stage, sink, exports and the live state make of it."""

import csv
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from fix_services import Start, await_true
from fix_stage import Wire, make_device, make_frame

from dashboard.imports.backfills import LARGEST
from dashboard.live.seed import seed
from dashboard.pages.exports import REMOVED
from dashboard.pages.plot import FIND, PAIR
from schemas.devices import Station
from schemas.iea.convert import Answers, devices_of
from schemas.json_file import JsonFile
from schemas.keys import partition_of

pytestmark = pytest.mark.integration

WITHIN_S = 90


@pytest.fixture
def device_partitions() -> int:
    return 3


def test_a_removed_device_has_no_alarms_and_its_readings_stay(
    wire: Wire, database: str, start: Start, tmp_path: Path
) -> None:
    assert partition_of("m0", 3) != partition_of("m2", 3)  # the station's alarm goes over to another partition
    place = Station(station_id="mast", name="Mast", latitude_deg=52.1, longitude_deg=4.2)
    facts = {"silence_limit_s": 3, "loggers": [{"utc_offset_minutes": 0}], "station": place}
    wire.configure(*(make_device(f"m{number}", **facts) for number in (0, 2, 3)))
    wire.send(*(make_frame(f"m{number}", 0, first=0, rows=2) for number in (0, 2, 3)))
    for service in ("sink", "streams"):
        start(service, "run", TELLTALE_KAFKA=wire.kafka, TELLTALE_DATABASE=database).await_ready()
    connected = psycopg.connect(database, autocommit=True)

    def rows(query: str) -> list[tuple[object, ...]]:
        return connected.execute(query.encode()).fetchall()

    def telltale(*words: str) -> str:
        command = [sys.executable, "-m", "infra.command", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def station() -> list[tuple[object, ...]]:
        return rows("SELECT device_id, state FROM alarms WHERE source = 'station/mast' AND state <> 'cleared'")

    await_true(lambda: station() == [("m0", "raised")], what="the station is silent", within_s=WITHIN_S)
    assert telltale("stations", "remove", "m0", "--yes", "--kafka", wire.kafka) == "removed m0\n"
    await_true(lambda: station() == [("m2", "raised")], what="another device stands for it", within_s=WITHIN_S)
    gone = "SELECT state, reason FROM alarms WHERE source = 'device/m0'"
    await_true(lambda: rows(gone) == [("cleared", "device_removed")], what="its alarm is over", within_s=WITHIN_S)
    wire.send(make_frame("m0", 1, first=2, rows=1))
    refused = "SELECT device_id, reason FROM rejected"
    await_true(lambda: rows(refused) == [("m0", "unknown_device")], what="what it sends is told", within_s=WITHIN_S)
    wire.send(make_frame("m2", 1, first=2, rows=1))
    await_true(lambda: station() == [], what="the station is heard", within_s=WITHIN_S)

    active = (
        "SELECT d.active, bool_or(s.active) FROM devices d JOIN sensors s USING (device_id) GROUP BY d.device_id, 1"
    )
    assert sorted(rows(active)) == [(False, False), (True, True), (True, True)]
    for kind, name in (("csv", "m0.csv"), ("iea43", "model.csv")):
        telltale("export", kind, "--device", "m0", "--out", name, "--database", database)
    with (tmp_path / "m0.csv").open() as file:
        assert [len(line) for line in csv.reader(file) if line and line[0][:1].isdigit()] == [4, 4]
    model = JsonFile((tmp_path / "model.json").read_bytes(), name="model.json")
    (device,) = devices_of(model, answers=Answers(configured_at=datetime.now(UTC), configured_by="test")).devices
    assert sorted(sensor.channel for sensor in device.sensors) == ["c0", "c1", "c2"]
    assert connected.execute(REMOVED).fetchall() == [("mast", "Mast", "m0", ["c0", "c1", "c2"])]
    assert [row[0] for row in connected.execute(FIND, (["%c1%"], 10))] == ["m2/c1", "m3/c1", "m0/c1"]
    assert connected.execute(PAIR, ("m0", 0, 0)).fetchone() is None  # it has no vane
    assert {row[1] for row in connected.execute(LARGEST, {"device": None, "begin": None})} == {"m2", "m3"}
    fleet = seed(database, now_us=time.time_ns() // 1000).fleet
    assert {name for name, facts in zip(fleet.devices, fleet.facts, strict=True) if facts.active} == {"m2", "m3"}
    connected.close()

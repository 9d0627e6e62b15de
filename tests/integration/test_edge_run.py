"""`telltale edge run` and `simulate` as real processes against a real broker."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from fix_edge import mast_rows, toa5_text
from fix_services import Start, await_true
from metric_catalogue import listed, scraped

from infra.offsets import span
from producers.spool.look import look
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.frames import RawFrame
from schemas.records import Heartbeat, SourceState
from schemas.topics import HEARTBEATS, READINGS_RAW

pytestmark = pytest.mark.integration

CODEC = Codec()


@pytest.fixture
def device_partitions() -> int:
    return 2


def values(address: str, topic: str) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look", "enable.auto.commit": False})
    found: list[bytes] = []
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            low, high = span(consumer, topic, partition, within_s=60)
            consumer.assign([TopicPartition(topic, partition, low)])
            while low < high:
                message = consumer.poll(10)
                assert message is not None and message.error() is None  # noqa: PT018 - one look
                found.append(message.value())
                low = message.offset() + 1
    finally:
        consumer.close()
    return found


def frames(address: str) -> list[RawFrame]:
    return [CODEC.decode_frame(RawFrame, value) for value in values(address, READINGS_RAW)]


def channels(address: str) -> dict[str, int]:
    """How many readings of which device.channel there are."""
    count: dict[str, int] = {}
    for frame in frames(address):
        for channel in frame.channels:
            key = f"{frame.device_id}.{channel}"
            count[key] = count.get(key, 0) + len(frame.times)
    return count


CONFIG = """
device = "pi-1"
spool = "spool"
heartbeat_s = 0.3
linger_s = 0.02
restart_first_s = 0.05
metrics_port = 0

[[source]]
kind = "exec"
command = ["{python}", "-c", "import time\\nwhile True: print('t,21.5', flush=True); time.sleep(0.05)"]

[[source]]
name = "broken"
kind = "exec"
command = ["{python}", "-c", "raise SystemExit('no such sensor')"]

[[source]]
kind = "python"
entry = "my_driver:make"
every_s = 0.05
device = "pi-2"

[[source]]
kind = "file"
path = "mast.dat"
every_s = 0.1
device = "mast-7"
utc_offset = "+01:00"
stamp = "end"
interval_s = 600

[[source]]
kind = "folder"
path = "inbox"
pattern = "*.dat"
every_s = 0.1
device = "mast-8"
utc_offset = "+00:00"
stamp = "begin"

[[source]]
kind = "simulate"
device = "sim"
rate = 50
sensors = 2
"""
DRIVER = """
class Sensor:
    def read(self):
        return {"pressure": 1013.2}
    def close(self):
        print("driver closed", flush=True)
make = Sensor
"""


def test_six_sources_of_five_devices_in_one_process(tmp_path: Path, cluster: str, start: Start) -> None:
    (tmp_path / "edge.toml").write_text(CONFIG.replace("{python}", sys.executable))
    (tmp_path / "my_driver.py").write_text(DRIVER)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "old.dat").write_text(toa5_text(mast_rows(10)))
    log = tmp_path / "mast.dat"
    log.write_text(toa5_text(mast_rows(3)))
    service = start("edge", "run", "-c", "edge.toml", TELLTALE_KAFKA=cluster).await_ready()
    with log.open("a") as file:
        file.write(f"{mast_rows(4)[3]}\n")

    def all_there() -> bool:
        found = channels(cluster)
        wanted = {"pi-1.t": 3, "pi-2.pressure": 3, "mast-7.T2m": 4, "mast-8.T2m": 10, "sim.s01": 3}
        return all(found.get(key, 0) >= least for key, least in wanted.items())

    await_true(all_there, what="readings of all sources")

    def beats() -> list[Heartbeat]:
        return [CODEC.decode(Heartbeat, value) for value in values(cluster, HEARTBEATS)]

    def states() -> dict[str, SourceState]:
        return {state.name: state for beat in beats() if beat.device_id == "pi-1" for state in beat.sources}

    def told() -> bool:
        found = states()
        return found["exec-1"].accepted > 0 and found["broken"].restarts > 0

    await_true(lambda: bool(states()) and told(), what="a heartbeat after the first readings")
    assert {beat.device_id for beat in beats()} >= {"pi-1", "pi-2", "mast-7", "mast-8", "sim"}
    assert states()["exec-1"].state == "running"
    assert any("no such sensor" in s.detail for b in beats() for s in b.sources if s.name == "broken")
    assert beats()[-1].clock_synchronised in (True, False)
    look_inside(service.log.read_text())
    assert service.stop() == 0
    assert "driver closed" in service.log.read_text()
    assert "Traceback" not in service.log.read_text()
    (left,) = {each.folder for each in look(tmp_path / "spool")}
    assert sum(each.waiting for each in look(left)) == 0


def look_inside(log: str) -> None:
    """What the edge says of itself where a port is set."""
    at = re.search(r"event=metrics service=edge url=(\S+)/metrics", log)
    assert at is not None
    text = httpx.get(f"{at[1]}/metrics", trust_env=False).text
    names = {entry.name for entry in scraped(text)}
    assert {name for name in listed() if name.startswith("telltale_edge_")} <= names <= listed().keys()
    figures = dict(re.findall(r"^(telltale_edge_\S+) (\S+)$", text, re.MULTILINE))
    assert float(figures["telltale_edge_accepted_readings_total"]) >= 23
    assert 0 < float(figures["telltale_edge_frames_total"]) <= float(figures["telltale_edge_sent_readings_total"])
    assert (figures['telltale_edge_link{state="up"}'], figures["telltale_edge_devices"]) == ("1.0", "5.0")
    ready = httpx.get(f"{at[1]}/readyz", trust_env=False)
    checks = ready.json()["checks"]
    assert checks["link"]["ok"]
    assert checks["spool"]["ok"]
    assert "last acknowledgement" in checks["last_acknowledged"]["said"]
    # The broken source is tried again and again: it runs for a moment or waits, and has failed in any case.
    assert float(figures["telltale_edge_source_restarts_total"]) > 0
    assert ready.status_code == (200 if checks["sources"]["ok"] else 503)
    assert httpx.get(f"{at[1]}/healthz", trust_env=False).status_code == 200


def telltale(*words: object, cwd: Path, text: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.command", *map(str, words)]
    environment = {**os.environ, **env, "TELLTALE_DIR": str(cwd)}
    return subprocess.run(
        command, cwd=cwd, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_standard_input_is_sent_to_its_end_and_the_edge_ends_well(tmp_path: Path, cluster: str) -> None:
    (tmp_path / "edge.toml").write_text('device = "pi-1"\n[[source]]\nkind = "stdin"\n')
    lines = "".join(f"{1_700_000_000 + n},t,{n}\n" for n in range(5000)) + "rubbish\n"
    done = telltale("edge", "run", cwd=tmp_path, text=lines, TELLTALE_KAFKA=cluster)
    assert done.returncode == 0, done.stderr
    assert "all readings are acknowledged" in done.stdout
    assert "not understood" in done.stdout
    assert channels(cluster) == {"pi-1.t": 5000}


def test_what_waits_in_a_spool_is_exported_and_sent_by_another_edge(tmp_path: Path, cluster: str) -> None:
    from infra import ports

    (tmp_path / "edge.toml").write_text('device = "pi-1"\n[[source]]\nkind = "stdin"\n')
    away = {"TELLTALE_KAFKA": f"127.0.0.1:{ports.free()}"}
    waits = telltale("edge", "run", cwd=tmp_path, text="1700000000,t,1\n1700000001,t,\n1700000001,h,3\n", **away)
    assert "3 readings wait in the spool" in waits.stdout
    out = telltale("edge", "spool", "export", "rescued.jsonl", "--device", "pi-1", cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert len((tmp_path / "rescued.jsonl").read_text().splitlines()) == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "edge.toml").write_text((tmp_path / "edge.toml").read_text())
    telltale("edge", "run", cwd=other, text=(tmp_path / "rescued.jsonl").read_text(), TELLTALE_KAFKA=cluster)
    assert channels(cluster) == {"pi-1.t": 2, "pi-1.h": 1}


def test_a_simulation_is_what_its_truth_says(tmp_path: Path, cluster: str) -> None:
    words = "edge simulate --devices 5 --sensors 3 --rate 10 --duration 10s --fast --seed 3 --json --truth truth.jsonl"
    faults = "spike,gap,duplicate,out_of_order,flood,clock_jump,wrong_device,bad_bytes:0.02"
    done = telltale(*words.split(), "--faults", faults, cwd=tmp_path, TELLTALE_KAFKA=cluster)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    good, strange, bad = [], 0, 0
    for value in values(cluster, READINGS_RAW):
        try:
            frame = CODEC.decode_frame(RawFrame, value)
        except Unreadable:
            bad += 1
            continue
        if frame.device_id.startswith("not-"):
            strange += 1
        else:
            good += [(frame.device_id, int(at), *row) for at, row in zip(frame.times, frame.values, strict=True)]
    truth = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    meant = [
        (rows["device"], at, *row)
        for rows in (line["rows"] for line in truth if "rows" in line)
        for at, row in zip(rows["times"], rows["values"], strict=True)
    ]
    assert sorted(good) == sorted(meant)
    assert len(meant) == report["total"]["rows"]
    assert len(set(good)) == report["total"]["distinct_rows"]
    assert strange + bad == report["total"]["strange"] > 0


def test_ctrl_c_ends_a_simulation_with_its_counts(tmp_path: Path, cluster: str, start: Start) -> None:
    import signal

    service = start("edge", "simulate", "--rate", "20", "--spool", "s", TELLTALE_KAFKA=cluster)
    await_true(lambda: bool(channels(cluster)), what="readings")
    os.kill(service.pid, signal.SIGINT)
    await_true(lambda: not service.lives, what="its end")
    assert "0 wait in the spool" in service.log.read_text()

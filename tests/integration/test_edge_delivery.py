"""The edge against a real broker: what only the wire can show."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition
from fix_edge import mast_rows, some_rows
from fix_services import await_true

from infra import ports
from infra.offsets import span
from producers import Edge, EdgeSettings
from producers.cli import edge as command
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.devices import Device, Logger, Sensor, Station
from schemas.frames import RawFrame
from schemas.keys import partition_of
from schemas.records import Heartbeat, ImportStatus
from schemas.topics import HEARTBEATS, IMPORTS, READINGS_RAW

pytestmark = pytest.mark.integration

CODEC = Codec()
STEP_US = 600_000_000


@pytest.fixture
def device_partitions() -> int:
    return 3


def records(address: str, topic: str) -> list[Any]:
    """Every record of a topic, up to its end now."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look", "enable.auto.commit": False})
    found = []
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            low, high = span(consumer, topic, partition, within_s=60)
            consumer.assign([TopicPartition(topic, partition, low)])
            while low < high:
                message = consumer.poll(10)
                assert message is not None and message.error() is None  # noqa: PT018 - one look
                found.append(message)
                low = message.offset() + 1
    finally:
        consumer.close()
    return found


def frames(address: str) -> list[RawFrame]:
    return [CODEC.decode_frame(RawFrame, message.value()) for message in records(address, READINGS_RAW)]


def cells(found: list[RawFrame]) -> list[tuple[int, str, float]]:
    """Every reading of some frames, as often as it is there."""
    return sorted(
        (int(at), channel, float(value))
        for frame in found
        for at, row in zip(frame.times, frame.values, strict=True)
        for channel, value in zip(frame.channels, row, strict=True)
    )


def mast(*channels: str, stamp: str | None = "end") -> Device:
    logger = Logger(utc_offset_minutes=60, stamp=stamp, interval_s=600)  # type: ignore[arg-type]  # a test's word
    return Device(
        device_id="mast-7",
        name="mast",
        station=Station(station_id="hill", name="Hill"),
        loggers=(logger,),
        sensors=tuple(Sensor(channel=c, point=c, quantity="wind_speed", unit="m/s", statistic="avg") for c in channels),
        configured_at=datetime(2024, 1, 1, tzinfo=UTC),
        configured_by="test",
    )


@pytest.fixture
def send(tmp_path: Path, cluster: str) -> Callable[..., Result]:
    """`telltale edge send` with a spool of the test's own."""

    def run(*arguments: object, kafka: str = cluster) -> Result:
        words = [
            "send",
            *map(str, arguments),
            "--device",
            "mast-7",
            "--spool",
            str(tmp_path / "spool"),
            "--kafka",
            kafka,
        ]
        return CliRunner().invoke(command, [*words, "--json"])

    return run


def test_accepted_readings_arrive_once_with_their_identity(tmp_path: Path, cluster: str) -> None:
    settings = EdgeSettings(device_id="mast-7", spool=tmp_path, linger_s=0.01, frame_bytes_max=1024)
    with Edge(settings, address=cluster) as edge:
        for first in range(0, 2000, 100):
            edge.accept_rows([some_rows(100, first=first)])
        await_true(lambda: edge.drained, what="all delivered")
        assert edge.counts().sent == 4000
    found = frames(cluster)
    assert [frame.sequence for frame in found] == list(range(len(found)))
    assert cells(found) == cells([_frame(some_rows(2000))])


def _frame(rows: Any) -> RawFrame:
    return RawFrame(rows.device_id, "", 0, rows.times, rows.channels, rows.values)


def test_frames_lie_where_murmur2_puts_their_device(tmp_path: Path, cluster: str) -> None:
    with Edge(EdgeSettings(spool=tmp_path), address=cluster) as edge:
        for number in range(10):
            edge.accept(None, "a", 1.0, device_id=f"pi-{number}")
        await_true(lambda: edge.drained, what="all delivered")
    for message in records(cluster, READINGS_RAW):
        assert message.partition() == partition_of(message.key().decode(), 3)


def test_heartbeats_tell_the_spool_at_start_and_end(tmp_path: Path, cluster: str) -> None:
    with Edge(EdgeSettings(device_id="mast-7", spool=tmp_path), address=cluster) as edge:
        edge.accept(0, "a", 1.0)
        await_true(lambda: edge.drained and bool(records(cluster, HEARTBEATS)), what="readings and a heartbeat")
    beats = [CODEC.decode(Heartbeat, message.value()) for message in records(cluster, HEARTBEATS)]
    assert len(beats) >= 2
    assert (beats[-1].accepted, beats[-1].sent, beats[-1].depth) == (1, 1, 0)
    assert abs(beats[-1].clock_offset_s or 0) < 1


def test_an_edge_without_its_broker_keeps_what_it_accepts(tmp_path: Path, cluster: str) -> None:
    nowhere = f"127.0.0.1:{ports.free()}"
    settings = EdgeSettings(device_id="mast-7", spool=tmp_path)
    with Edge(settings, address=nowhere) as away:
        away.accept_rows([some_rows(50)])
        await_true(lambda: away.progress.link.link == "away", what="away")
        assert not away.drained
    with Edge(settings, address=cluster) as edge:
        await_true(lambda: edge.drained, what="all delivered")
    assert cells(frames(cluster)) == cells([_frame(some_rows(50))])


def test_a_missing_topic_is_told_and_the_frame_sent_when_it_is_there(tmp_path: Path, kafka: str) -> None:
    from fix_stack import empty_broker

    from infra.provision import provision

    empty_broker(kafka)
    settings = EdgeSettings(device_id="mast-7", spool=tmp_path, retry_first_s=0.1, retry_s_max=0.5)
    with Edge(settings, address=kafka) as edge:
        edge.accept_rows([some_rows(5)])
        await_true(lambda: edge.progress.link.link == "topic_missing", what="topic missing")
        provision(kafka, partitions=3)
        await_true(lambda: edge.drained, what="all delivered")
    assert cells(frames(kafka)) == cells([_frame(some_rows(5))])


def test_a_file_is_sent_once_as_beginnings_in_utc(cluster: str, send: Any, write_toa5: Any) -> None:
    publish(cluster, [mast("Spd80mN", "T2m")])
    path = write_toa5(mast_rows(300))
    first, second = send(path), send(path)
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    report = json.loads(first.stdout)
    (file,) = report["files"]
    assert (file["state"], file["rows"], file["readings"], file["acknowledged"]) == ("sent", 300, 600, 600)
    assert file["left_out"] == {"RECORD": "the logger's row number", "Site": "text", "Spd80mS": "not configured"}
    assert json.loads(second.stdout)["files"][0]["state"] == "already sent"
    found = cells(frames(cluster))
    assert len(found) == 600
    # 2016-12-20 00:00 at +01:00, end of a ten-minute interval
    assert found[0][0] == int(datetime(2016, 12, 19, 22, 50, tzinfo=UTC).timestamp()) * 1_000_000
    assert {late[0] - early[0] for early, late in zip(found, found[2:], strict=False)} == {STEP_US}


def test_a_file_tells_its_states(cluster: str, send: Any, write_toa5: Any) -> None:
    publish(cluster, [mast("Spd80mN")])
    send(write_toa5(mast_rows(30)))
    states = [CODEC.decode(ImportStatus, message.value()) for message in records(cluster, IMPORTS)]
    assert [status.state for status in states] == ["found", "sending", "sent"]
    assert (states[-1].rows, states[-1].readings, states[-1].sent, states[-1].last_sequence) == (30, 30, 30, 0)


def test_again_sends_a_file_once_more(cluster: str, send: Any, write_toa5: Any) -> None:
    publish(cluster, [mast("Spd80mN")])
    path = write_toa5(mast_rows(10))
    send(path)
    assert send(path, "--again").exit_code == 0
    assert len(cells(frames(cluster))) == 20


def test_a_device_that_is_not_configured_is_refused_before_anything_is_accepted(send: Any, write_toa5: Any) -> None:
    result = send(write_toa5(mast_rows(3)))
    assert "telltale stations import" in str(result.exception)
    assert result.exit_code != 0


def test_what_is_not_known_of_a_clock_is_asked(cluster: str, send: Any, write_toa5: Any) -> None:
    publish(cluster, [mast("Spd80mN", stamp=None)])
    path = write_toa5(mast_rows(3))
    assert "--stamp begin|end" in str(send(path).exception)
    assert send(path, "--stamp", "begin").exit_code == 0
    assert len(cells(frames(cluster))) == 3


def test_a_file_waits_in_the_spool_when_the_broker_is_away(cluster: str, send: Any, write_toa5: Any) -> None:
    path = write_toa5(mast_rows(50))
    options = ("--utc-offset", "+00:00", "--stamp", "begin", "--timeout", "1")
    away = send(path, *options, kafka=f"127.0.0.1:{ports.free()}")
    assert "run the same command again" in str(away.exception)
    publish(cluster, [mast("Spd80mN", "Spd80mS", "T2m")])
    assert send(path, *options).exit_code == 0
    assert len(cells(frames(cluster))) == 150


def test_a_broker_that_is_away_is_told_at_once_and_the_send_gives_up_in_time(tmp_path: Path, write_toa5: Any) -> None:
    path = write_toa5(mast_rows(50))
    words = ["edge", "send", str(path), "--device", "mast-7", "--spool", str(tmp_path / "spool"), "--timeout", "5"]
    words += ["--utc-offset", "+00:00", "--stamp", "begin", "--kafka", f"127.0.0.1:{ports.free()}"]
    with subprocess.Popen(
        [sys.executable, "-m", "infra.command", *words], stderr=subprocess.PIPE, text=True
    ) as sending:
        assert sending.stderr is not None
        assert "does not answer" in sending.stderr.readline()
        assert sending.poll() is None  # told while it still tries
        assert "150 readings are safe" in sending.stderr.read()
    assert sending.returncode == 1


def test_what_the_broker_said_of_a_device_is_known_while_it_is_away(cluster: str, send: Any, write_toa5: Any) -> None:
    publish(cluster, [mast("Spd80mN")])
    send(write_toa5(mast_rows(3)))
    away = send(write_toa5(mast_rows(9)), "--timeout", "1", kafka=f"127.0.0.1:{ports.free()}")
    assert json.loads(away.stdout)["waiting"] == 9


def test_kept_readings_are_sent_again_on_demand_by_the_edge_at_work(tmp_path: Path, cluster: str) -> None:
    settings = EdgeSettings(device_id="mast-7", spool=tmp_path, linger_s=0.01, keep_s=3600)
    with Edge(settings, address=cluster) as edge:
        for first in range(0, 30, 10):
            edge.accept_rows([some_rows(10, first=first)])
            await_true(lambda: edge.drained, what="all delivered")
        before = [frame.sequence for frame in frames(cluster)]
        words = ["spool", "resend", "--spool", str(tmp_path), "--from", "1970-01-01T00:00:10Z"]
        said = CliRunner().invoke(command, [*words, "--to", "1970-01-01T00:00:20Z"])
        assert said.output.startswith("20 readings in 1 frame go again"), said.output
        await_true(lambda: len(frames(cluster)) > len(before), what="sent again")
        await_true(lambda: edge.drained, what="all delivered")
        assert "expected a time" in str(CliRunner().invoke(command, [*words, "--to", "soon"]).exception)
    found = frames(cluster)
    assert [frame.sequence for frame in found] == [*before, 1]
    assert cells(found[-1:]) == cells(found[1:2])
    assert len({frame.spool_id for frame in found}) == 1


def test_a_send_that_is_killed_again_and_again_ends_with_each_row_once(
    tmp_path: Path, cluster: str, write_toa5: Any
) -> None:
    publish(cluster, [mast("Spd80mN", "T2m")])
    path = write_toa5(mast_rows(60_000))
    command = [sys.executable, "-m", "infra.command", "edge", "send", str(path), "--device", "mast-7"]
    command += ["--spool", str(tmp_path / "spool"), "--kafka", cluster, "--json"]
    small = {"TELLTALE_EDGE_WINDOW_BYTES": "65536", "TELLTALE_EDGE_FRAME_BYTES_MAX": "16384"}
    spool = tmp_path / "spool" / "spool.db"
    for kill in range(4):
        with subprocess.Popen(command, env={**os.environ, **small}, stdout=subprocess.PIPE) as running:
            await_true(lambda: spool.exists() or running.poll() is not None, what="its spool or its end")
            time.sleep(0.1 * kill)  # at some point of its work, whichever
            running.kill()
    last = subprocess.run(command, env={**os.environ, **small}, capture_output=True, check=False, timeout=120)
    assert last.returncode == 0, last.stderr
    by_identity: dict[tuple[str, int], RawFrame] = {}
    for frame in frames(cluster):
        before = by_identity.setdefault((frame.spool_id, frame.sequence), frame)
        assert (before.times == frame.times).all()
        assert (before.values == frame.values).all()
    assert sorted(sequence for _, sequence in by_identity) == list(range(len(by_identity)))
    found = cells(list(by_identity.values()))
    assert len(found) == len({(at, channel) for at, channel, _ in found}) == 120_000

"""What operators do about the stage: look at it, replay, send rejected frames again."""

import json
import subprocess
import sys
from typing import Any

import pytest
from fix_services import Start, await_true
from fix_stage import Wire, make_device, make_frame, readings_of

from infra.settle import STAGES, behind
from producers.stations.devices import remove
from schemas.keys import partition_of
from schemas.topics import STREAMS_GROUP

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions() -> int:
    return 3


def settled(wire: Wire) -> bool:
    return not behind(wire.kafka, STREAMS_GROUP, STAGES[STREAMS_GROUP])


def telltale(wire: Wire, *words: str, code: int = 0) -> Any:
    ran = subprocess.run(
        [sys.executable, "-m", "infra.command", *words, "--kafka", wire.kafka],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout if code == 0 else ran.stderr


def test_status_tells_owner_lag_and_generation(wire: Wire, start: Start) -> None:
    wire.configure(make_device("d0"))
    wire.send(make_frame("d0", 0, first=0, rows=5))
    assert "nobody works" in telltale(wire, "streams", "status", "--sample", "0", code=1)
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="stage settled")
    found = json.loads(telltale(wire, "streams", "status", "--sample", "0", "--json"))
    assert (found["owners"], found["lag_records"], found["generation"]) == (1, 0, 0)
    (used,) = [each for each in found["partitions"] if each["offset"]]
    assert used["last_commit_age_s"] is not None
    assert used["devices"] == 1
    assert used["owner"]


def test_replay_of_a_device_computes_the_same_again_in_a_new_generation(wire: Wire, start: Start) -> None:
    wire.configure(make_device("d0"))
    wire.send(*(make_frame("d0", sequence, first=sequence * 50, rows=50) for sequence in range(4)))
    worker = start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="stage settled")
    assert worker.stop() == 0
    first = readings_of(wire.clean())

    assert json.loads(telltale(wire, "replay", "--by", "1h", "--device", "d0", "--json"))["records"] == 4
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="replay settled")
    again = [frame for frame in wire.clean() if frame.generation == 1]
    assert sorted(readings_of(again)) == sorted(first)
    generations = json.loads(telltale(wire, "replay", "list", "--json"))["partitions"]
    assert sorted(each["generation"] or 0 for each in generations) == [0, 0, 1]


def test_rejected_frames_are_sent_again_once_their_device_is_configured(wire: Wire, start: Start) -> None:
    wire.send(make_frame("d7", 0, first=0, rows=2), make_frame("d7", 1, first=2, rows=2))
    wire.send(b"rubbish", key="d7")
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: len(wire.rejected()) == 3, what="three rejected")
    listed = [json.loads(line) for line in telltale(wire, "rejected", "list", "--json").splitlines()]
    unknown = [each["id"] for each in listed if each["reason"] == "unknown_device"]
    (rubbish,) = [each["id"] for each in listed if each["reason"] != "unknown_device"]
    shown = json.loads(telltale(wire, "rejected", "show", unknown[0]))
    assert shown["frame"]["channels"] == ["c0", "c1", "c2"]
    assert "cannot be sent again" in telltale(wire, "rejected", "retry", rubbish, code=2)
    assert "no rejected record 9/99" in telltale(wire, "rejected", "show", "9/99", code=2)

    wire.configure(make_device("d7"))
    for _ in range(2):  # the second time changes nothing
        assert "sent 2 frames" in telltale(wire, "rejected", "retry", "--reason", "unknown_device")
        await_true(lambda: settled(wire), what="stage settled")
        assert wire.clean_readings() == 4 * 3


def test_replay_of_a_name_that_nobody_has_is_refused_and_of_a_removed_device_is_not(wire: Wire) -> None:
    wire.configure(make_device("gone"))
    wire.send(make_frame("gone", 0, first=0, rows=5))
    assert remove(wire.kafka, ["gone"]) == 1
    before = telltale(wire, "replay", "list", "--json")

    typo = next(name for name in map("typo{}".format, range(100)) if partition_of(name, 3) == partition_of("gone", 3))
    for since in ("--from-beginning", "--from=2099-01-01T00:00Z"):
        said = telltale(wire, "replay", since, "--device", typo, code=2)
        assert f'got "{typo}"' in said
        assert "telltale stations show" in said
    assert telltale(wire, "replay", "list", "--json") == before

    again = json.loads(telltale(wire, "replay", "--from-beginning", "--device", "gone", "--json"))
    assert (again["records"], [each["partition"] for each in again["partitions"]]) == (1, [partition_of("gone", 3)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay",), "say one of --from"),
        (("replay", "--from", "2026-01-01"), "has no zone"),
        (("replay", "--from", "soon"), "expected a time"),
        (("replay", "--by", "3 weeks"), "expected a length"),
        (("rejected", "retry"), "name the records"),
    ],
)
def test_wrong_words_are_told_in_one_line(wire: Wire, words: tuple[str, ...], said: str) -> None:
    assert said in telltale(wire, *words, code=2)

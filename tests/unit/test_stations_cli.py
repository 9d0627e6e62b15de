"""`telltale stations`: files in, devices or one clear line out. No broker here."""

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from infra.command import telltale
from producers.stations import show
from schemas.devices import Device
from schemas.errors import Refused, Unavailable

DEMO = str(files("infra.demo") / "demo_mast.json")
BEFORE, AFTER = datetime(2017, 1, 4, 17, 59, tzinfo=UTC), datetime(2017, 1, 4, 18, tzinfo=UTC)


def run(*words: str) -> Result:
    return CliRunner().invoke(telltale, ["stations", *words])


def imported(*words: str) -> dict[str, Any]:
    result = run("import", *words, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.fixture
def demo() -> Device:
    return Device.model_validate(imported(DEMO)["devices"][0])


def test_dry_run_says_what_would_be_configured() -> None:
    result = run("import", DEMO, "--dry-run")
    assert result.exit_code == 0
    assert result.output == "would configure demo-mast: 29 sensors, 5 of them with calibrations that change\n"


def test_what_is_printed_can_be_imported(tmp_path: Path, demo: Device) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps(imported(DEMO)["devices"]))
    again = Device.model_validate(imported(str(own), "--device", "m2", "--silence-limit", "60")["devices"][0])
    assert (again.device_id, again.silence_limit_s) == ("m2", 60)
    assert again.sensors == demo.sensors


@pytest.mark.parametrize(
    ("text", "minutes"), [("+01:00", 60), ("-05:30", -330), ("-5", -300), ("0", 0), ("Z", 0), ("0930", 570)]
)
def test_offset_fills_what_the_file_leaves_open(tmp_path: Path, text: str, minutes: int) -> None:
    file = tmp_path / "mast.json"
    model = json.loads(Path(DEMO).read_text())
    model["measurement_location"][0]["logger_main_config"][0]["offset_from_utc_hrs"] = None
    file.write_text(json.dumps(model))
    device = imported(str(file), "--utc-offset", text)["devices"][0]
    assert device["loggers"][0]["utc_offset_minutes"] == minutes


@pytest.mark.parametrize("text", ["15", "1:99", "CET", "", "+-1"])
def test_nonsense_offset_is_refused(text: str) -> None:
    result = run("import", DEMO, "--dry-run", "--utc-offset", text)
    assert result.exit_code == 2
    assert "is no offset from UTC" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is neither a WRA data model (measurement_location) nor a device (device_id) nor a list of devices"),
        ("[]", "has no device"),
        ('[{"device_id": "a b"}]', "[0].device_id must match"),
        ('{"device_id": "a",\n "unheard": 1}', "is missing"),
        ("<xml/>", "is not JSON"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mast.json"
    file.write_text(content)
    result = run("import", str(file), "--dry-run")
    assert isinstance(result.exception, Refused)
    assert message in str(result.exception)
    assert str(result.exception).startswith(f"{file}: ")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    result = run("import", str(tmp_path / name), "--dry-run")
    assert isinstance(result.exception, Refused)
    assert "cannot be read" in str(result.exception)


def test_device_id_with_a_blank_is_refused() -> None:
    result = run("import", DEMO, "--dry-run", "--device", "a b")
    assert isinstance(result.exception, Refused)


def test_broker_that_is_away_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.whole_topic.ANSWER_S", 0.2)
    for words in (["import", DEMO], ["show"]):
        result = run(*words, "--kafka", "127.0.0.1:1")
        assert isinstance(result.exception, Unavailable)
        assert str(result.exception) == "kafka at 127.0.0.1:1 does not answer"


def test_table_tells_the_numbers_that_are_active(demo: Device) -> None:
    anemometer = next(sensor for sensor in demo.sensors if sensor.channel == "Spd40mS")
    assert show.numbers(anemometer, now=BEFORE) == "0.0459·x + 0.2554 → 0.04591·x + 0.25539"
    assert show.numbers(anemometer, now=AFTER) == "0.04591·x + 0.25539 (as certified)"
    vane = next(sensor for sensor in demo.sensors if sensor.channel == "Dir78mS")
    assert show.numbers(vane, now=AFTER) == "dead band 180°, logger offset 180°"


def test_table_shows_a_channel_with_brackets_as_it_is(demo: Device) -> None:
    sensor = demo.sensors[0].model_copy(update={"channel": "AirT[42]"})
    console = Console(width=200)
    with console.capture() as printed:
        console.print(show.table(demo.model_copy(update={"sensors": (sensor,)}), now=AFTER))
    assert "AirT[42]" in printed.get()
    assert "UTC+00:00, stamps begin the interval" in printed.get()

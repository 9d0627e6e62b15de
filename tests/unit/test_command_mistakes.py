"""What no command foresees is told in one line: a package that is not installed, a file that cannot be used."""

import os
import pwd
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from dashboard import readings
from dashboard.cli import _number
from dashboard.flags import stored
from dashboard.flags.cli import _numbers, flags
from dashboard.imports.cli import _line
from dashboard.imports.gaps import Period, check_known
from dashboard.web.running import _listen
from infra.caller import caller
from infra.cli import _since
from infra.command import COMMANDS, imported
from infra.database import told_in_one_line
from schemas.errors import Refused, Unavailable
from sinks.timescale.recalibration.selection import select


@pytest.mark.parametrize(
    ("words", "package"), [(["users", "list"], "psycopg"), (["sink", "run"], "psycopg"), (["streams", "run"], "faust")]
)
def test_what_is_not_installed_is_named(words: list[str], package: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(f'raise ModuleNotFoundError("No module named {package}", name={package!r})')
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "TELLTALE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"needs the package {package}, which is not installed here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("TELLTALE_WATCHDOG_DISKS", ["watchdog", "look", "--kafka", "127.0.0.1:1", "--database", "dbname=x"]),
        ("TELLTALE_EDGE_FRAME_KEYS", ["edge", "spool"]),
    ],
)
def test_a_variable_that_should_be_json_is_named(variable: str, words: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "TELLTALE_DIR": str(tmp_path), variable: "{half"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"error: {variable}: expected JSON\n")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "error: TELLTALE_KAFKA_CA: "), ("no certificate", "error: Kafka: Failed to create")]
)
def test_a_file_of_certificates_that_is_none_is_told_in_one_line(
    content: str | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    env = {**os.environ, "TELLTALE_DIR": str(tmp_path), "TELLTALE_KAFKA_CA": str(file)}
    command = [sys.executable, "-m", "infra.command", "topics", "check", "--kafka", "127.0.0.1:1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(said)


@pytest.mark.parametrize("words", [["tls", "init", "--name", "here"], ["device", "list", "--kafka", "no address:1"]])
def test_a_folder_that_is_a_file_is_named(words: list[str], tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    env = {**os.environ, "TELLTALE_DIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    "words",
    [
        ["backup", "list", "--folder"],
        ["export", "csv", "--station", "hill", "--zone"],
        ["db", "status", "--database"],
        ["streams", "status", "--kafka"],
    ],
)
def test_an_argument_that_is_no_utf_8_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "TELLTALE_DIR": str(tmp_path), "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "infra.command", *words, b"caf\xe9"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_files_name_steers_no_terminal_and_makes_no_line() -> None:
    file: dict[str, Any] = {"sha256": "0" * 64, "time": datetime.now(UTC), "state": "refused", "rows": 1}
    file |= {"device_id": None, "name": "\x1b]0;x\x07.dat", "reason": "line 1:\nstored"}
    assert _line(file).isprintable()


def test_infinity_is_no_number_of_json() -> None:
    assert [_number(each) for each in (1.5, float("nan"), float("inf"), -float("inf"))] == [1.5, None, None, None]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--help"], ["notify", "example"], ["backup", "list"]])
def test_a_disk_too_full_for_what_is_printed_is_told_in_one_line(words: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "TELLTALE_DIR": str(tmp_path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: what is printed cannot be written: No space left")


def test_flags_beyond_what_can_be_counted_are_not_on() -> None:
    with pytest.raises(Refused, match=r"flag 9{40} is not on"):
        _numbers(("1", "9" * 5_000))


def test_a_value_that_the_database_cannot_hold_is_told_in_one_line() -> None:
    with pytest.raises(Refused, match="database: bigint out of range"), told_in_one_line():
        raise psycopg.errors.NumericValueOutOfRange("bigint out of range")


def test_a_containers_number_without_a_name_is_a_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    done = CliRunner().invoke(flags, ["remove", "1", "--database", "postgresql://nobody@127.0.0.1:1/none"])
    assert isinstance(done.exception, Unavailable)
    assert caller() == f"uid {os.getuid()}"


@pytest.mark.parametrize(("sensor", "station"), [("", None), (None, ""), (None, None), ("mast-7/Spd80", "mast")])
def test_a_sensor_or_a_station_has_to_be_named(sensor: str | None, station: str | None) -> None:
    with pytest.raises(Refused, match="say which"):
        select(None, sensor=sensor, station=station, begin=None, end=None)  # type: ignore[arg-type]  # asks nobody


class Nothing:
    """A database that holds nothing of what is asked for."""

    def execute(self, *_: object) -> "Nothing":
        return self

    def fetchall(self) -> list[tuple[int, str]]:
        return []


def test_an_empty_name_is_not_known_and_does_not_mean_all() -> None:
    nothing: Any = Nothing()
    with pytest.raises(Refused, match="not known"):
        stored.the_sensor(nothing, "")
    whole: dict[str, Any] = dict.fromkeys(("sensor", "device", "station", "begin", "end", "flags"))
    for what in ("sensor", "device", "station"):
        with pytest.raises(Refused, match=f"{what} : not known"):
            readings.count(nothing, readings.selection(**{**whole, what: ""}))


@pytest.mark.parametrize(
    "words",
    [["edge", "send", "a.dat", "--device", "x", "--timeout"], ["settle", "--timeout"], ["imports", "gaps", "--min"]],
)
def test_nan_is_no_number_of_seconds(words: list[str]) -> None:
    name, *rest = words
    done = CliRunner().invoke(imported(name, COMMANDS[name][0]), [*rest, "nan"])
    assert done.exit_code == 2
    assert "is not a valid number" in done.output


@pytest.mark.parametrize("host", ["..", "x" * 300, "no such host"])
def test_what_is_no_host_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(Refused, match="cannot listen on"):
        _listen(host, 0)


@pytest.mark.parametrize("length", ["99999999999d", "800000d", f"{'9' * 400}s"])
def test_a_replay_from_before_the_year_1_is_refused(length: str) -> None:
    with pytest.raises(Refused, match="before the year 1"):
        _since(None, length)


@pytest.mark.parametrize("name", ["", "no such mast"])
def test_who_is_not_known_has_no_gaps_that_could_be_denied(name: str) -> None:
    nothing: Any = Nothing()
    for period in (Period(device=name), Period(station=name)):
        with pytest.raises(Refused, match="not known to the database"):
            check_known(nothing, period)
    check_known(nothing, Period())  # of a database without devices


def test_gaps_of_a_period_that_ends_before_it_begins_are_refused() -> None:
    now = datetime.now(UTC)
    with pytest.raises(Refused, match="must be before"):
        Period(begin=now, end=now - timedelta(days=1))

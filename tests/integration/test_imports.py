"""A technician's files from the folder to the database: unknown, asked, refused, stored, missing, read again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fix_imports import HEADER, cells_of, configure, lines, mast, records, statuses, write
from fix_services import Start, await_true
from fix_sink import Database

from infra.command import telltale as command
from schemas.alarms import read_alarm
from schemas.devices import Logger
from schemas.errors import Refused, Unavailable
from schemas.topics import ALARMS

pytestmark = pytest.mark.integration

Telltale = Callable[..., Any]


@pytest.fixture
def device_partitions() -> int:
    return 3


@pytest.fixture
def telltale(cluster: str, stored: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Telltale:
    """Runs a command in this process, in its folder; what it printed, and behind that why it refused."""
    for name, value in surroundings(cluster, stored, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        ran = CliRunner().invoke(command, words)
        refused = ran.exception if isinstance(ran.exception, Refused | Unavailable) else None
        if ran.exception is not None and refused is None and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        assert (refused.exit_code if refused else ran.exit_code) == code, ran.output + str(refused)
        return ran.stdout + (str(refused) if refused else "")

    return run


def surroundings(cluster: str, stored: Database, folder: Path) -> dict[str, str]:
    return {"TELLTALE_KAFKA": cluster, "TELLTALE_DATABASE": stored.dsn, "TELLTALE_DIR": str(folder / "stack")}


def alarm_states(cluster: str) -> dict[tuple[str, str], list[str]]:
    """By rule and source, what was said of each."""
    found: dict[tuple[str, str], list[str]] = {}
    for message in records(cluster, ALARMS):
        if message.value():
            alarm = read_alarm(message.value()).data
            found.setdefault((alarm.rule, alarm.source), []).append(str(alarm.state))
    return found


@pytest.mark.timeout(300)
def test_files_from_unknown_to_stored_with_gaps_filled_and_alarms_cleared(
    cluster: str, stored: Database, start: Start, telltale: Telltale, tmp_path: Path
) -> None:
    env = surroundings(cluster, stored, tmp_path)
    for service in (("streams", "run"), ("sink", "run"), ("imports", "run")):
        start(*service, **env, TELLTALE_IMPORT_WAITING_S="1").await_ready()
    write(tmp_path / "mast.dat", 0, 400)

    # unknown: told with a configuration to accept, and nothing is dropped
    assert "telltale stations adopt FILE" in telltale("import", "mast.dat", code=2)
    proposed = json.loads(telltale("stations", "adopt", "mast.dat", "--dry-run", "--json"))
    assert [sensor["channel"] for sensor in proposed["sensors"]] == ["Spd80mN", "Dir78mS"]
    telltale("stations", "adopt", "mast.dat", "--device", "mast-7")

    # asked: the exact question; the answer is remembered for that logger
    assert "how far is its clock from UTC?" in telltale("import", "mast.dat", code=2)
    await_true(
        lambda: any(rule == "not_imported" for rule, _ in alarm_states(cluster)), what="not imported", within_s=90
    )
    said = json.loads(telltale("import", "mast.dat", "--utc-offset", "+00:00", "--stamp", "end", "--json"))
    assert (said["state"], said["rows"], said["readings"], said["sent"]) == ("stored", 400, 800, 400)
    found = {(time, channel, value) for (_, channel, time), (value, *_) in stored.readings().items()}
    assert found == cells_of(0, 400)

    # again: nothing is sent; a copy, renamed and compressed, is the same file
    assert "imported before" in telltale("import", "mast.dat")
    (tmp_path / "changed.dat").write_text(HEADER.replace('"12345"', '"999"') + lines(400, 10))
    assert "signature 12345 is now 999" in telltale("import", "changed.dat", code=2)

    # uploads: put into the incoming folder by anybody, taken by the service
    inbox = tmp_path / "stack" / "incoming" / "anna"
    inbox.mkdir(parents=True)
    write(inbox / "second.dat", 600, 100)
    (inbox / "broken.rld").write_bytes(bytes(range(256)) * 40)
    await_true(lambda: statuses(cluster).get("second.dat", None) is not None, what="taken", within_s=90)
    await_true(lambda: statuses(cluster)["second.dat"].state == "stored", what="stored", within_s=120)
    assert statuses(cluster)["second.dat"].uploaded_by == "anna"
    assert not (inbox / "second.dat").exists()
    await_true(lambda: statuses(cluster).get("broken.rld", None) is not None, what="refused", within_s=90)
    assert "encrypted NRG" in (statuses(cluster)["broken.rld"].reason or "")

    # the table says the same as the topic
    listed = [json.loads(line) for line in telltale("imports", "list", "--json").splitlines()]
    assert {each["name"]: each["state"] for each in listed} == {
        "mast.dat": "stored",
        "changed.dat": "needs an answer",
        "second.dat": "stored",
        "broken.rld": "refused",
    }
    shown = json.loads(telltale("imports", "show", "mast.dat", "--json"))
    assert (shown["readings"], shown["readings_in_database"]) == (800, 800)
    assert (tmp_path / "stack" / "archive" / shown["archive"]).read_bytes() == (tmp_path / "mast.dat").read_bytes()

    # gaps: between the files, and one that the database lost; backfill reads that one again and no more
    stored.call("DELETE FROM readings WHERE time >= '2020-01-01T12:00Z' AND time < '2020-01-01T18:00Z'")
    period = ("--device", "mast-7", "--from", "2020-01-01", "--to", "2020-01-05T20:30")
    gaps = json.loads(telltale("imports", "gaps", *period, "--json"))["gaps"]
    assert [(each["from"], each["missing"]) for each in gaps] == [
        ("2020-01-01T12:00:00Z", 36),
        ("2020-01-03T18:30:00Z", 200),
    ]
    report = json.loads(telltale("imports", "backfill", *period, "--json"))
    assert (report["missing"], report["left"]) == (236, 200)
    assert stored.one("SELECT count(*) FROM readings") == 2 * 500
    assert "telltale edge spool resend --device mast-7" in report["elsewhere"][0]

    # alarms: cleared by what becomes of the files
    (refused,) = [source for rule, source in alarm_states(cluster) if rule == "import_refused"]
    telltale("imports", "forget", refused.removeprefix("imports/"))
    telltale("stations", "adopt", "changed.dat", "--device", "mast-7")
    assert json.loads(telltale("import", "changed.dat", "--json"))["state"] == "stored"
    await_true(
        lambda: all(said[-1] == "cleared" for (rule, _), said in alarm_states(cluster).items() if "import" in rule),
        what="all cleared",
        within_s=90,
    )

    # what the stage refuses is never called stored: this device exists only from the middle of its file on
    logger = Logger(serial="other", utc_offset_minutes=0, stamp="begin")
    configure(cluster, mast("late-1", exists_from="2020-01-15T12:00:00Z", loggers=(logger,)))
    write(tmp_path / "late.dat", 2000, 200)
    late = json.loads(telltale("import", "late.dat", "--device", "late-1", "--json"))
    assert (late["state"], late["rejected"]) == ("sent", 2 * 88)
    assert "telltale rejected list --device late-1" in late["reason"]

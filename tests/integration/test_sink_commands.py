"""`telltale db`, `telltale sink status`, `telltale readings`: what a person sees."""

import json
import signal
import subprocess
import sys

import pytest
from fix_sink import clean_frame, until

from schemas.topics import READINGS_CLEAN

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions():
    return 2


def telltale(*words):
    return subprocess.run([sys.executable, "-m", "infra.command", *words], capture_output=True, text=True, check=False)


def test_schema_is_made_once_and_told(database):
    assert (
        "0001_tables.sql" in json.loads(telltale("db", "migrate", "--database", database, "--json").stdout)["applied"]
    )
    assert telltale("db", "migrate", "--database", database).stdout == "up to date\n"
    told = json.loads(telltale("db", "status", "--database", database, "--json").stdout)
    assert told["pending"] == []
    assert told["features"]


def test_edited_schema_is_refused_in_one_line(stored):
    stored.rows("UPDATE migrations SET checksum = 'other' WHERE name = '0001_tables.sql' RETURNING 1")
    refused = telltale("db", "migrate", "--database", stored.dsn)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: migration 0001_tables.sql")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("sink", "run"), ("sink", "status"), ("readings", "count"), ("db", "status")])
def test_database_that_does_not_answer_is_one_line(words, cluster):
    place = [] if words[0] in ("readings", "db") else ["--kafka", cluster]
    refused = telltale(*words, *place, "--database", "postgresql://127.0.0.1:1/none")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


@pytest.mark.parametrize("words", [("sink", "run"), ("sink", "status")])
def test_broker_that_does_not_answer_is_one_line(words, stored):
    refused = telltale(*words, "--kafka", "127.0.0.1:1", "--database", stored.dsn)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr


def test_stored_readings_are_counted_shown_and_not_behind(cluster, clean, stored, start_sink):
    clean.send(clean_frame("mast-0", 0, 10), clean_frame("mast-1", 0, 5))
    sink = start_sink().working()
    until(lambda: stored.readings() == clean.expected, what="the readings")
    until(
        lambda: (
            json.loads(telltale("sink", "status", "--kafka", cluster, "--database", stored.dsn, "--json").stdout)["lag"]
            == 0
        ),
        what="no lag, though a transaction's marker lies behind the last record",
    )
    told = json.loads(telltale("sink", "status", "--kafka", cluster, "--database", stored.dsn, "--json").stdout)
    assert {each["epoch"] for each in told["partitions"] if each["topic"] == READINGS_CLEAN} == {1}
    counted = json.loads(telltale("readings", "count", "--database", stored.dsn, "--json").stdout)
    assert counted == {"total": 30, "sensors": {
        "mast-0/Dir78": 10, "mast-0/Spd80": 10, "mast-1/Dir78": 5, "mast-1/Spd80": 5,
    }}  # fmt: skip
    chosen = ("--sensor", "mast-0/Spd80", "--from", "2016-11-24T15:06:42Z", "--to", "2016-11-24T15:06:44")
    shown = telltale("readings", "show", *chosen, "--database", stored.dsn, "--json").stdout.splitlines()
    assert [json.loads(line)["value"] for line in shown] == [2.0, 3.0]
    failed = telltale("readings", "show", "--quality", "fail", "--database", stored.dsn, "--limit", "1").stdout
    assert failed.split() == [
        "2016-11-24",
        "15:06:40.000000Z",
        "mast-0/Dir78",
        "0.125",
        "0.0625",
        "fail",
        "gross_range",
    ]
    sink.send(signal.SIGINT)
    assert sink.wait() == 0


def test_question_that_makes_no_sense_is_refused(stored):
    for words in (
        ("--sensor", "no/such"),
        ("--from", "yesterday"),
        ("--quality", "superb"),
        ("--from", "2020", "--to", "2019"),
    ):
        refused = telltale("readings", "count", *words, "--database", stored.dsn)
        assert refused.returncode == 2, words
        assert len(refused.stderr.splitlines()) == 1

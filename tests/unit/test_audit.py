"""What a command at the shell leaves behind: who, what, with which outcome, and no secret; no database."""

import json
import os
import pwd
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from infra.audit import commands, journal
from infra.command import COMMANDS, GUESTS, imported
from schemas.errors import Refused, Unavailable

ME = pwd.getpwuid(os.getuid()).pw_name

LOOKS = {
    ("demo",), ("up",), ("status",), ("down",), ("doctor",), ("settle",), ("import",), ("quality", "try"),
    ("audit", "list"), ("stations", "calibration", "list"),
    ("stations", "export"), ("stations", "show"), ("imports", "gaps"), ("imports", "list"), ("imports", "show"),
    ("imports", "run"), ("device", "list"), ("edge", "run"), ("edge", "send"), ("edge", "show"), ("edge", "simulate"),
    ("readings", "count"), ("readings", "show"), ("alarms", "list"), ("alarms", "tail"), ("alarms", "rules", "list"),
    ("dashboard", "openapi"), ("dashboard", "run"), ("streams", "run"), ("streams", "status"), ("sink", "run"),
    ("sink", "status"), ("flags", "categories"), ("flags", "list"), ("db", "readers"),
    ("db", "status"), ("db", "upkeep"), ("users", "list"), ("rejected", "list"), ("rejected", "show"),
    ("replay", "list"), ("backup", "list"), ("backup", "run"), ("backup", "verify"), ("notify", "check"),
    ("notify", "example"), ("notify", "run"), ("notify", "status"), ("notify", "test"), ("watchdog", "look"),
    ("watchdog", "run"), ("topics", "check"), ("token", "list"),
}  # fmt: skip
"""Commands that change nothing of what is stored or allowed, or that are services, or send readings (which are told by
`imports`)."""
OWN = {("token", "create"), ("token", "revoke")}  # noted in the transaction that makes them


def leaves(path, command):
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves((*path, name), inner)
        if not command.invoke_without_command:
            return
    yield path


def every_command():
    for name, (where, _) in COMMANDS.items():
        # Where another test has run the command, its guests stand in it, yet to be imported: see below.
        yield from (path for path in leaves((name,), imported(name, where)) if path not in GUESTS)
    for place, (where, _) in GUESTS.items():
        yield from leaves(place, imported(" ".join(place), where))


def test_of_every_command_it_is_decided_whether_it_leaves_a_trace():
    there = {path for path in every_command() if path[:2] not in {("edge", "spool"), ("export", path[-1])}}
    decided = commands.AUDITED.keys() | LOOKS | OWN
    assert there - decided == set(), "name it in infra/audit/commands.py, or here"
    assert commands.AUDITED.keys() - there == set(), "commands that are no more"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path))
    for name in ("TELLTALE_DATABASE", "TELLTALE_READY_FILE", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)

    @click.group()
    def device():
        pass

    @device.command()
    @click.argument("device_id")
    @click.option("--kafka")
    @click.option("--database")
    @click.option("--dry-run", is_flag=True)
    @click.option("--ends", default="well")
    def add(device_id, kafka, database, dry_run, ends):
        trouble = {"refused": Refused("it has one"), "away": Unavailable("Kafka"), "bug": ZeroDivisionError("x")}
        if ends in trouble:
            raise trouble[ends]
        if ends == "exit":
            click.get_current_context().exit(3)

    group = commands.audited(("device",), device)

    def call(*words):
        CliRunner().invoke(group, ["add", *words])
        return journal.left(journal.place(tmp_path))

    return call


@pytest.mark.parametrize(
    ("ends", "outcome", "why"),
    [
        ("well", "done", None),
        ("refused", "refused", "it has one"),
        ("away", "failed", "Kafka"),
        ("bug", "failed", "ZeroDivisionError('x')"),
        ("exit", "failed", "exit code 3"),
    ],
)
def test_a_command_leaves_who_what_on_what_and_the_outcome(run, ends, outcome, why):
    (one,) = run("pi-1", "--kafka", "broker:9092", "--ends", ends)
    assert (one["who"], one["what"], one["subject"], one["outcome"]) == (ME, "device.add", "pi-1", outcome)
    assert one["detail"].get("why") == why
    assert one["detail"]["kafka"] == "broker:9092"


def test_what_somebody_wrote_stands_beside_why_it_failed(run, tmp_path, monkeypatch):
    monkeypatch.delenv("TELLTALE_KAFKA", raising=False)
    acknowledge = commands.audited(("alarms",), imported("alarms", COMMANDS["alarms"][0]))
    CliRunner().invoke(acknowledge, ["acknowledge", "61f0", "--reason", "on my way"])
    (one,) = journal.left(journal.place(tmp_path))
    assert (one["outcome"], one["detail"]["reason"]) == ("failed", "on my way")
    assert one["detail"]["why"]


def test_whoever_tries_to_sign_in_writes_no_lines_of_his_own_into_the_list(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path))
    monkeypatch.setenv("TELLTALE_DATABASE", "postgresql://nobody@127.0.0.1:1/none")
    stranger = journal.Entry(
        time=datetime.now(UTC), who="x\x1b[2J\n2026-11-27  root", what="login", subject="", outcome="refused", detail={}
    )
    journal.write(journal.place(tmp_path), stranger)
    told = CliRunner().invoke(imported("audit", COMMANDS["audit"][0]), ["list"]).stdout
    assert told.count("\n") == 1
    assert told.rstrip("\n").isprintable()


def test_secrets_are_left_out_and_a_look_leaves_nothing(run):
    assert run("pi-1", "--dry-run") == []
    (one,) = run("pi-1", "--database", "postgresql://me:secret@host/x")
    (_, other) = run("postgresql://me:secret@host/x")
    assert "secret" not in json.dumps([one, other])


def test_who_lent_the_account_is_named(run, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "anna")
    (one,) = run("pi-1")
    assert one["who"] == f"{ME} (sudo by anna)"


def test_what_a_service_does_at_its_start_is_nobodys_action(run, monkeypatch):
    monkeypatch.setenv("TELLTALE_READY_FILE", "/tmp/x")
    assert run("pi-1") == []


def test_words_of_any_bytes_are_text_that_a_database_takes(run):
    (one,) = run("m\udce4st-\u00e4", "--kafka", "\udcff:9092")
    assert json.dumps(one, ensure_ascii=False).encode()
    assert (one["subject"], one["detail"]["kafka"]) == ("m?st-\u00e4", "?:9092")


def test_a_line_behind_a_torn_one_is_kept(run, tmp_path):
    run("pi-1")
    with (journal.place(tmp_path) / journal.JOURNAL).open("ab") as file:
        file.write(b'{"entry": "torn by a full di')
    assert [one["subject"] for one in run("pi-2")] == ["pi-1", "pi-2"]


def test_a_torn_line_is_passed_over_and_the_journal_is_private(run, tmp_path):
    run("pi-1")
    path = journal.place(tmp_path) / journal.JOURNAL
    with path.open("ab") as file:
        file.write(b'{"entry": "x"\n{"torn')
    assert len(journal.left(path.parent)) == 1
    assert path.stat().st_mode & 0o077 == 0


def test_a_journal_that_cannot_be_written_is_told_and_stops_nobody(run, tmp_path):
    (tmp_path / "audit").write_text("a file")
    assert run("pi-1") == []

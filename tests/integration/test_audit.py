"""The shell's journal and the database: brought once, also when it was away; listed beside what people do on pages."""

import datetime as dt
import json
import os
import subprocess
import sys

import pytest

from infra.audit import journal

pytestmark = pytest.mark.integration


@pytest.fixture
def telltale(tmp_path):
    def run(*words, code=0, **env):
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env={**os.environ, "TELLTALE_DIR": str(tmp_path), **env},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        if words[:2] == ("audit", "list"):
            assert ("only what is not in the database yet is shown" in done.stderr) == (code == 1)
        return done.stdout

    return run


def test_what_was_done_is_in_the_log_once_also_if_the_database_was_away(telltale, stored, tmp_path):
    away, there = {"TELLTALE_DATABASE": "postgresql://127.0.0.1:1/x"}, {"TELLTALE_DATABASE": stored.dsn}
    nobody = {"TELLTALE_KAFKA": "127.0.0.1:1"}
    telltale("tls", "init", "--name", "localhost", **away)
    telltale("device", "add", "telltale-x", code=2, **away, **nobody)
    listed = [json.loads(line) for line in telltale("audit", "list", "--json", code=1, **away).splitlines()]
    assert [(each["what"], each["outcome"]) for each in listed] == [("device.add", "refused"), ("tls.init", "done")]

    telltale("tls", "init", "--name", "localhost", "--folder", str(tmp_path / "other"), **there)
    where = journal.place(tmp_path)
    assert journal.left(where) == []
    journal.bring_all_again(where)  # as after a restore
    assert journal.bring(where, stored.dsn) == 3
    stored.call(
        "INSERT INTO audit_log (who, way, what, subject, outcome) VALUES ('anna', 'session', 'flag.add', 's', 'done')"
    )
    listed = [json.loads(line) for line in telltale("audit", "list", "--json", **there).splitlines()]
    assert [(each["what"], each["way"], each["outcome"]) for each in listed] == [
        ("flag.add", "session", "done"),
        ("tls.init", "shell", "done"),
        ("device.add", "shell", "refused"),
        ("tls.init", "shell", "done"),
    ]
    assert listed[1]["detail"] == {"names": ["localhost"], "folder": str(tmp_path / "other")}
    assert telltale("audit", "list", "--who", "a_n", **there) == ""  # no wildcard
    assert telltale("audit", "list", "--who", "ann", "--what", "flag", **there).count("flag.add") == 1
    assert "anna" not in telltale("audit", "list", "--since", dt.datetime.now(dt.UTC).isoformat(), **there)
    telltale("audit", "list", "--since", "yesterday", code=2, **there)

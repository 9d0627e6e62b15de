"""Every service's log has one shape, whoever speaks: the service, a library, Python's last words."""

import json
import os
import subprocess
import sys

import pytest

SERVICE = """
import logging
import structlog
from infra import events
events.configure(service="tried")
structlog.get_logger("x").info("stored", rows=3, detail='said "no"\\nand a=b', where=None)
logging.getLogger("a.library").warning("connection %s lost", 7)
logging.getLogger("a.library").info("not worth a line")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("threw")
raise KeyError("a bug")
"""
EDGE = """
from infra import log_lines
from producers import journal
log_lines.speak_by(journal.error)
journal.info("stored", rows=3, detail='said "no"\\nand a=b', where=None)
raise KeyError("a bug")
"""


def lines(code: str, how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TELLTALE_LOG_FORMAT": how},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("code", "service", "events"),
    [(SERVICE, "tried", ["stored", "connection 7 lost", "threw", "crashed"]), (EDGE, "edge", ["stored", "crashed"])],
    ids=["service", "edge"],
)
def test_json_lines_have_one_shape(code: str, service: str, events: list[str]) -> None:
    said = [json.loads(line) for line in lines(code, "json")]
    assert [each["event"] for each in said] == events
    for each in said:
        assert list(each)[:4] == ["ts", "level", "event", "service"]
        assert each["service"] == service
    assert (said[0]["rows"], said[0]["detail"], said[0]["where"]) == (3, 'said "no"\nand a=b', None)
    assert said[-1]["level"] == "error"
    assert said[-1]["error"] == "KeyError: 'a bug'"
    assert "Traceback" in said[-1]["exception"]


@pytest.mark.parametrize(("code", "service", "count"), [(SERVICE, "tried", 4), (EDGE, "edge", 2)])
def test_logfmt_has_the_same_shape(code: str, service: str, count: int) -> None:
    said = lines(code, "logfmt")
    assert len(said) == count
    for line in said:
        assert line.startswith("ts=")
        assert f" service={service}" in line
    assert said[0].partition(" ")[2] == (
        f'level=info event=stored service={service} rows=3 detail="said \\"no\\"\\nand a=b" where='
    )


def test_an_unknown_format_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", "watchdog", "run"],
        env={**os.environ, "TELLTALE_LOG_FORMAT": "xml"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, 'error: TELLTALE_LOG_FORMAT: expected logfmt or json, got "xml"\n')


def test_why_a_service_ends_is_an_event_in_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.command", "watchdog", "run"],
        env={**os.environ, "TELLTALE_LOG_FORMAT": "json", "TELLTALE_KAFKA": "", "TELLTALE_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["event"], said["service"], "no stack runs in" in said["error"]) == ("ends", "watchdog", True)

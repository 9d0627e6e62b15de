"""Every service's log has one shape, whoever speaks: the service, a library, Python's last words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import log_lines, logs

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


@pytest.mark.parametrize("how", log_lines.Format)
@pytest.mark.parametrize("said", ["a\x1b[2Jb", "a\u2028b", "a\nb\r\tc", "m\udce4st.dat", "a\0b", 'a "b" \\ c=d'])
def test_whatever_is_said_is_one_line_that_steers_nothing(how: log_lines.Format, said: str) -> None:
    line = log_lines.render({"event": "tried", "detail": said}, how)
    assert line.encode().decode().isprintable() or how is log_lines.Format.JSON
    assert len(line.encode().splitlines()) == 1
    if how is log_lines.Format.JSON:
        assert json.loads(line)["detail"] == said.replace("\udce4", "?")


def test_logfmt_is_quoted_where_it_must_be() -> None:
    told = {"event": "x", "plain": "a-b/c", "said": 'a "b"\n\\', "none": None, "yes": True}
    line = log_lines.render(told, log_lines.Format.LOGFMT)
    assert line == 'event=x plain=a-b/c said="a \\"b\\"\\n\\\\" none= yes=true'


@pytest.fixture
def full_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "SIZE_BYTES_MAX", 10)
    path = tmp_path / "dashboard.log"
    with logs.appended(path) as file:
        file.write(b"the way in is /welcome#secret")
    return path


def test_a_full_log_is_kept_for_its_owner_alone_and_goes_on(full_log: Path) -> None:
    before = full_log.with_suffix(".log.1")
    before.write_text("of before")
    before.chmod(0o644)
    logs.shorten(full_log)
    assert (full_log.read_bytes(), before.read_bytes()) == (b"", b"the way in is /welcome#secret")
    assert [path.stat().st_mode & 0o077 for path in (full_log, before)] == [0, 0]


def test_a_full_log_of_which_no_copy_can_be_kept_ends_nothing(full_log: Path) -> None:
    full_log.with_suffix(".log.1").mkdir()
    logs.shorten(full_log)
    assert full_log.read_bytes() == b""

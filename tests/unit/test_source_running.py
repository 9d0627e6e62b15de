"""Sources that print, drivers, and what happens when they fail."""

import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_services import await_true
from fix_sources import Kept, Running

from infra import ports
from producers import Edge, EdgeSettings
from producers.config import read_config
from producers.delivery.backoff import Backoff
from producers.sources.driver import Python
from producers.sources.pipes import Command
from producers.sources.port import Source
from producers.sources.watching import Sources, Watched
from producers.spool import Spool
from schemas.errors import Refused, Unavailable


def python(code: str, **about: float) -> Command:
    return Command((sys.executable, "-c", code), **about)


def test_lines_of_a_command_come_as_it_prints_them(running: Running) -> None:
    kept = Kept()
    running(python("import time\nprint('t,1', flush=True)\ntime.sleep(60)"), kept)
    await_true(lambda: kept.cells == [("mast-7", "t", 1.0)], what="reading")


def test_a_command_that_ends_has_failed_with_what_it_said() -> None:
    kept = Kept()
    with pytest.raises(Unavailable, match="ended with 3: no such sensor"):
        python("import sys\nprint('t,1')\nprint('no such sensor', file=sys.stderr)\nsys.exit(3)").run(
            kept, threading.Event()
        )
    assert kept.cells == [("mast-7", "t", 1.0)]


def test_a_command_that_falls_silent_has_failed() -> None:
    with pytest.raises(Unavailable, match=r"said nothing for 0.2 s"):
        python("import time\ntime.sleep(60)", quiet_s_max=0.2).run(Kept(), threading.Event())


def test_a_command_is_called_every_so_often(running: Running) -> None:
    kept = Kept()
    running(python("print('t,1')", every_s=0.05), kept)
    await_true(lambda: len(kept.cells) >= 3, what="three calls")


def test_a_command_and_its_children_end_with_its_source(running: Running, tmp_path: Path) -> None:
    note = tmp_path / "alive"
    child = f"import time\nwhile True:\n open({str(note)!r}, 'a').write('x'); time.sleep(0.02)"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])"
    stop = running(python(code), Kept())
    await_true(note.exists, what="child")
    stop.set()
    await_true(lambda: threading.active_count() <= 1 or not _grows(note), what="end of the child")
    assert not _grows(note)


def _grows(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(0.2)
    return path.stat().st_size != before


DRIVER = """
class Sensor:
    closed = 0
    def __init__(self, offset=0):
        self.count, self.offset = 0, offset
    def read(self):
        self.count += 1
        if self.count == 3:
            raise OSError("the bus hangs")
        return {"t": self.count + self.offset, "h": None}
    def close(self):
        Sensor.closed += 1
"""


def test_a_driver_is_read_and_closed_when_it_throws(tmp_path: Path) -> None:
    (tmp_path / "drivers_of_test.py").write_text(DRIVER)
    kept = Kept()
    with pytest.raises(OSError, match="the bus hangs"):
        Python("drivers_of_test:Sensor", 0.001, tmp_path, {"offset": 10}).run(kept, threading.Event())
    assert [value for _, channel, value in kept.cells if channel == "t"] == [11.0, 12.0]
    assert sys.modules["drivers_of_test"].Sensor.closed == 1


def test_an_entry_point_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing_here:Sensor"):
        Python("nothing_here:Sensor", 1, tmp_path).run(Kept(), threading.Event())


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("no such sensor")])
def test_a_source_that_raises_whatever_has_failed(lonely_edge: Edge, error: BaseException) -> None:
    """A maker's driver may call sys.exit: its thread ended without a word, and the source was told as running."""

    def made() -> Source:
        raise error

    one = Watched("bme280", "mast-7", made, lonely_edge, threading.Event())
    assert one._once() == f"{type(error).__name__}: {error}"


class Failing:
    """Brings one reading and throws."""

    def run(self, intake: Watched, stop: threading.Event) -> None:
        from producers.sources.text import rows_of

        intake.offer(rows_of(["t,1"], device_id=intake.device_id, now_us=0, odd=intake.odd))
        raise ZeroDivisionError("in the driver")


class Steady:
    def run(self, intake: Watched, stop: threading.Event) -> None:
        stop.wait()


@pytest.fixture
def lonely_edge(tmp_path: Path) -> Edge:
    return Edge(EdgeSettings(device_id="mast-7", spool=tmp_path / "spool"), address=f"127.0.0.1:{ports.free()}")


def test_a_source_that_throws_is_started_again_and_the_others_go_on(lonely_edge: Edge) -> None:
    stop = threading.Event()
    makes: dict[str, Callable[[], Source]] = {"bad": Failing, "good": Steady}
    watched = [Watched(name, "mast-7", make, lonely_edge, stop) for name, make in makes.items()]
    sources = Sources(watched, stop=stop, backoff=Backoff(0.01, 0.02))
    sources.start()
    await_true(lambda: watched[0].restarts >= 3, what="restarts")
    bad, good = sources.states("mast-7")
    assert sources.end() == []
    lonely_edge.close()
    assert (good.state, good.restarts) == ("running", 0)
    assert bad.accepted >= 3
    assert "ZeroDivisionError: in the driver" in bad.detail or bad.state == "running"


GOOD = '[[source]]\nkind = "stdin"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "[[source]] is missing"),
        ("devise = 'x'\n" + GOOD, "devise is not known here; known are device, source"),
        ("device = 'x", "is no TOML"),
        (GOOD, "source stdin: whose readings?"),
        ("device = 'x'\n[[source]]\nkind = 'tcp'", "source[1]: kind must be one of"),
        ("device = 'x'\n[[source]]\n", "source[1]: kind is missing"),
        ("device = 'x'\n[[source]]\nkind = 'exec'", "source[1].command: is missing"),
        ("device = 'x'\n[[source]]\nkind = 'exec'\ncommand = 'ls'", "source[1].command: must be a list"),
        ("device = 'x'\n" + GOOD + GOOD, "only one source can be of kind stdin"),
        ("device = 'x'\n" + 2 * "[[source]]\nkind='file'\npath='a'\n", "two sources are called file a"),
        ("device = 'x'\nlinger_s = -1\n" + GOOD, "linger_s: must be 0.0 or more, got -1"),
        ("device = 'x'\n[[source]]\nkind='simulate'\nfaults='spikes'", "no fault is called 'spikes'"),
        ("device = 'x'\n[[source]]\nkind='python'\nentry='x'\nevery=3", "source[1].entry: must match"),
    ],
)
def test_what_is_wrong_in_an_edge_toml_is_told_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    with pytest.raises(Refused) as refused:
        read_config(path)
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WINDOW_BYTES", "abc", "must be a whole number"),
        ("SECURITY_PROTOCOL", "sasl_ssl", "'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ("KEEP_S", "inf", "finite"),
    ],
)
def test_a_wrong_setting_of_the_environment_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TELLTALE_EDGE_{name}", value)
    (tmp_path / "edge.toml").write_text("device = 'x'\nkeep_s = 7\n" + GOOD)
    with pytest.raises(Refused) as refused:
        read_config(tmp_path / "edge.toml")
    assert str(refused.value).startswith(f"TELLTALE_EDGE_{name}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ({"security_protocol": "SSL", "ssl_ca_location": "/nowhere/ca.pem"}, "ssl.ca.location failed"),
        ({"ssl_ca_location": "/nowhere/ca.pem"}, "ssl.ca.location failed"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "pi-1"}, "sasl_username and sasl_password?"),
        ({"sasl_username": "pi-1"}, "security_protocol is SASL_SSL: sasl_username and sasl_password?"),
    ],
)
def test_an_edge_that_cannot_say_who_it_is_is_refused_and_leaves_its_spool(
    tmp_path: Path, security: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        Edge(EdgeSettings(device_id="pi-1", spool=tmp_path, **security), address="127.0.0.1:1")
    Spool(tmp_path, clock_us=lambda: 0).close()


def test_the_environment_goes_before_the_file_and_paths_are_meant_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_EDGE_KAFKA", "elsewhere:9092")
    path = tmp_path / "edge.toml"
    path.write_text('device = "pi"\nkafka = "here:9092"\nlinger_s = 0.5\n[[source]]\nkind = "file"\npath = "a.dat"')
    config = read_config(path)
    assert (config.settings.kafka, config.settings.linger_s) == ("elsewhere:9092", 0.5)
    assert config.source[0].path == tmp_path / "a.dat"  # type: ignore[union-attr]  # it is a file's

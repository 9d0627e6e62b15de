"""The stack's record, addresses, processes, logs and ports; nothing is started but this process's children."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra import parts, ports, processes, readiness, stack, up
from infra.demo.cli import demo
from infra.logs import Follower, last_line, shorten
from schemas.errors import Refused, Unavailable


@pytest.fixture(autouse=True)
def no_stack_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TELLTALE_KAFKA", "TELLTALE_DATABASE", "TELLTALE_DIR", "TELLTALE_READY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def stack_of(supervisor: processes.Identity, *services: stack.Service) -> stack.Stack:
    Path(".telltale").mkdir(exist_ok=True)
    return stack.Stack(Path(".telltale").absolute(), supervisor, "127.0.0.1:1", "postgresql://x", services=services)


def dead() -> processes.Identity:
    return processes.Identity(os.getpid(), "another boot:1")


def test_no_stack_is_told_with_the_way_out() -> None:
    with pytest.raises(Unavailable, match=r"^no stack runs in \.telltale; start one with: telltale up .*TELLTALE_DIR"):
        stack.locate()


def test_a_record_left_by_a_dead_supervisor_is_no_stack() -> None:
    stack_of(dead()).write()
    with pytest.raises(Unavailable, match="no stack runs"):
        stack.kafka_address()


def test_the_record_comes_back_as_it_was() -> None:
    service = stack.Service("kafka", "running", processes.myself(), restarts=2, since_s=5.0, stop_signal=2)
    written = stack_of(processes.myself(), service)
    written.write()
    assert stack.locate() == written
    assert written.is_up


def test_the_record_holds_a_password_and_is_private() -> None:
    stack_of(processes.myself()).write()
    assert stat.S_IMODE((Path(".telltale") / stack.STATE).stat().st_mode) == 0o600


def test_a_broken_record_is_told_in_one_line() -> None:
    Path(".telltale").mkdir()
    (Path(".telltale") / stack.STATE).write_text("{")
    with pytest.raises(Unavailable, match=r"state\.json cannot be read"):
        stack.recorded()


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"supervisor": {}}', '{"supervisor": null}'])
def test_a_record_of_another_version_is_told_in_one_line(text: str) -> None:
    stack_of(processes.myself(), stack.Service("sink", "running", processes.myself())).write()
    place = Path(".telltale") / stack.STATE
    of_tomorrow = json.loads(place.read_text())
    of_tomorrow["services"][0]["mood"] = "good"
    for told in (text, json.dumps(of_tomorrow)):
        place.write_text(told)
        with pytest.raises(Unavailable, match=r"state\.json is no record of a stack"):
            stack.recorded()


def test_option_then_environment_then_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    stack_of(processes.myself()).write()
    assert (stack.kafka_address(), stack.database_dsn()) == ("127.0.0.1:1", "postgresql://x")
    monkeypatch.setenv("TELLTALE_KAFKA", "environment:1")
    assert stack.kafka_address() == "environment:1"
    assert stack.kafka_address("option:1") == "option:1"


@pytest.mark.parametrize("text", ["x y:1", ":1", "host:port", "host:99999", "a:1,", "caf\udce9:1"])
def test_what_is_no_address_of_a_broker_is_told_at_once(text: str) -> None:
    with pytest.raises(Refused, match="--kafka: expected HOST:PORT"):
        stack.kafka_address(text)


@pytest.mark.parametrize("text", ["host", "host:1", "a:1,b:2", "[::1]:9092"])
def test_addresses_of_brokers(text: str) -> None:
    assert stack.kafka_address(text) == text


def test_a_dead_service_is_seen_though_nobody_noted_it() -> None:
    found = stack_of(processes.myself(), stack.Service("sink", "running", dead()))
    assert found.services[0].now().told()["state"] == "stopped"
    assert not found.is_up


def test_a_pid_given_out_again_is_another_process() -> None:
    assert processes.myself().lives()
    assert not dead().lives()


def test_a_process_of_another_parent_is_ended_in_bounded_time() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    identity = processes.identify(child.pid)
    assert identity is not None
    assert identity.end(signal.SIGTERM, timeout_s=10)
    assert child.wait() == -signal.SIGTERM


def test_the_edge_may_ask_for_the_address_without_heavy_imports() -> None:
    heavy = "('psutil', 'confluent_kafka', 'psycopg', 'rich')"
    code = f"import infra.stack, infra.readiness, sys; print([m for m in {heavy} if m in sys.modules])"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "[]"


def test_readiness_is_announced_only_to_who_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readiness.announce()
    monkeypatch.setenv("TELLTALE_READY_FILE", str(tmp_path / "ready"))
    readiness.announce()
    assert (tmp_path / "ready").exists()


def test_ports_of_which_a_power_cut_left_half_are_drawn_anew() -> None:
    for half in ("", "{", "[]", '{"kafka": "x"}'):
        Path("ports.json").write_text(half)
        assert up._last_ports(Path("ports.json")) == {}


@pytest.mark.parametrize("said", ["2", "²", "many", "-1"])
def test_a_wrong_number_of_brokers_names_its_variable(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_BROKERS", said)
    with pytest.raises(Refused, match=r"^TELLTALE_BROKERS: expected 1 or 3"):
        up._brokers(up.Wish(Path("stack")))


def test_three_brokers_have_room_for_their_ports() -> None:
    with pytest.raises(Refused, match="--kafka-port: 3 brokers have that port and those after it"):
        up._ports(up.Wish(Path.cwd(), kafka_port=65_534), 3, [])


def test_what_never_was_a_stacks_folder_is_not_deleted(tmp_path: Path) -> None:
    home, stack_folder = tmp_path / "home", tmp_path / "stack"
    for folder, name in ((home, "letters"), (stack_folder, "ports.json")):
        folder.mkdir()
        (folder / name).touch()
    with pytest.raises(Refused, match="home is not the folder of a stack"):
        up.remove(home)
    assert (home / "letters").exists()
    up.remove(stack_folder)
    assert not stack_folder.exists()


def test_the_demo_takes_no_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    done = CliRunner().invoke(demo, ["--dir", str(tmp_path)])
    assert isinstance(done.exception, Refused)
    assert (tmp_path / "letters").exists()


@pytest.mark.parametrize("only", ["kafka,postgress", "", ","])
def test_unknown_parts_are_refused_with_the_known_ones(only: str) -> None:
    with pytest.raises(Refused, match="--only: expected some of kafka,postgres,topics"):
        parts.chosen(only)


def test_parts_keep_their_order_whatever_is_asked() -> None:
    assert parts.chosen("topics, kafka") == ["kafka", "topics"]


def test_a_port_in_use_is_refused_and_not_given_out() -> None:
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Refused, match=f"--kafka-port: port {port} on 127.0.0.1 is in use"):
            ports.asked_for(port, option="--kafka-port")
        assert ports.free(preferred=port) != port


def test_a_log_is_shown_line_by_line_with_its_part_name(tmp_path: Path) -> None:
    log, out = tmp_path / "sink.log", io.StringIO()
    log.write_text("before\n")
    follower = Follower("sink", log, width=6, colour=None, out=out)
    with log.open("a") as writer:
        writer.write("one\ntw")
        writer.flush()
        follower.show()
        writer.write("o\n")
    follower.show()
    assert out.getvalue() == "sink   | one\nsink   | two\n"


def test_a_full_log_begins_again_and_is_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.logs.SIZE_BYTES_MAX", 4)
    log, out = tmp_path / "sink.log", io.StringIO()
    log.write_text("a long line\n")
    follower = Follower("sink", log, width=4, colour=None, out=out)
    shorten(log)
    with log.open("a") as writer:
        writer.write("new\n")
    follower.show()
    assert (log.with_suffix(".log.1").read_text(), out.getvalue()) == ("a long line\n", "sink | new\n")


def test_last_words_leave_out_the_traceback(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('Traceback (most recent call last):\n  File "x.py", line 1\n    boom()\nValueError: no\n')
    assert last_line(log) == "ValueError: no"


def test_state_is_json_for_scripts() -> None:
    stack_of(processes.myself(), stack.Service("kafka", "running", processes.myself())).write()
    assert json.loads((Path(".telltale") / stack.STATE).read_text())["services"][0]["name"] == "kafka"

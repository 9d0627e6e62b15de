"""`telltale up` and its neighbours with the real broker and the real database."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from infra import processes, stack
from infra.kafka import broker

pytestmark = pytest.mark.integration

BASE = [sys.executable, "-P", "-m", "infra.command"]


class Folder:
    """A stack's folder and the command line beside it."""

    def __init__(self, path: Path, **env: str) -> None:
        self.path = path
        foreign = ("TELLTALE_KAFKA", "TELLTALE_DATABASE")
        self.env = {key: value for key, value in os.environ.items() if key not in foreign}
        self.env |= {"TELLTALE_DIR": str(path), **env}

    def telltale(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BASE, *words], env=self.env, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.telltale("up", "--detach", "--only", "kafka,postgres", *words)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.telltale("status", "--json").stdout))

    def pids(self) -> dict[str, int]:
        return {each["name"]: each["pid"] for each in self.status()["services"]}

    def left_running(self) -> list[str]:
        """Processes whose command line or working folder is of this stack."""
        left = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = " ".join([*(process.info["cmdline"] or []), process.info["cwd"] or ""])
            if str(self.path) in words:
                left.append(words)
        return left


@pytest.fixture
def folder() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix="telltale-up of Jürgen-"))
    path.chmod(0o711)
    one = Folder(path)
    yield one
    one.telltale("down", "--remove")
    shutil.rmtree(path, ignore_errors=True)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What the user is told of a failure, leaving out the supervisor's progress."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("telltale: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_up_status_again_killed_again_down(folder: Folder) -> None:
    first = folder.up()
    assert first.returncode == 0, first.stderr
    status = folder.status()
    assert status["up"]
    assert broker.answers(status["kafka"])
    with psycopg.connect(status["database"]) as connection:
        connection.execute("create table kept as select 7 as seven")

    assert "a stack runs in" in one_line(folder.up())

    pids = folder.pids()
    os.kill(status["supervisor"], signal.SIGKILL)
    assert "no stack runs in" in folder.telltale("kafka", "topics", "--list").stderr
    second = folder.up()
    assert second.returncode == 0, second.stderr
    again = folder.status()
    assert (again["up"], again["kafka"], again["database"]) == (True, status["kafka"], status["database"])
    assert not any(processes.identify(pid) for pid in pids.values())
    with psycopg.connect(again["database"]) as connection:
        assert connection.execute("select seven from kept").fetchone() == (7,)

    assert folder.telltale("down").returncode == 0
    assert folder.telltale("status").returncode == 1
    assert folder.left_running() == []


def test_killed_parts_come_back_and_tools_find_the_broker(folder: Folder) -> None:
    assert folder.up().returncode == 0
    for pid in folder.pids().values():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not folder.status()["up"] or any(each["restarts"] != 1 for each in folder.status()["services"]):
        assert time.monotonic() < deadline, folder.status()
    created = folder.telltale("kafka", "topics", "--create", "--topic", "tried", "--partitions", "1")
    assert created.returncode == 0, created.stderr
    assert folder.telltale("kafka", "topics", "--list").stdout.split() == ["tried"]


def test_ctrl_c_stops_the_foreground_stack_beside_another_one(folder: Folder, tmp_path: Path) -> None:
    beside = Folder(tmp_path / "beside")
    try:
        assert beside.up().returncode == 0
        command = [*BASE, "up", "--only", "kafka,postgres"]
        running = subprocess.Popen(
            command, env=folder.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        with running:
            assert running.stdout is not None
            assert any("stop with" in line for line in running.stdout)
            running.send_signal(signal.SIGINT)
            running.stdout.read()
        assert running.returncode == 0
        assert folder.left_running() == []
        assert beside.status()["up"]
    finally:
        beside.telltale("down", "--remove")
    assert not (tmp_path / "beside").exists()


def test_a_port_in_use_is_one_line_and_leaves_nothing(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 is in use" in one_line(folder.up("--kafka-port", port))
    assert folder.left_running() == []


def test_a_folder_that_is_a_file_is_one_line(folder: Folder) -> None:
    (folder.path / "file").touch()
    assert "name another one with --dir" in one_line(folder.up("--dir", str(folder.path / "file" / "stack")))


def test_a_broker_that_does_not_come_up_is_one_line_and_leaves_nothing(folder: Folder) -> None:
    folder.env["TELLTALE_KAFKA_HEAP"] = "1m"
    assert "error: kafka ended with exit code 1" in one_line(folder.up())
    assert folder.left_running() == []
    assert stack.recorded(folder.path) is None


def test_unknown_parts_are_one_line(folder: Folder) -> None:
    done = folder.telltale("up", "--only", "zookeeper")
    assert (done.returncode, "expected some of kafka,postgres" in one_line(done)) == (2, True)


def test_doctor_finds_this_machine_fit(folder: Folder) -> None:
    done = folder.telltale("doctor", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)

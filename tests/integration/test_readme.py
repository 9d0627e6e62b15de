"""The README's commands, typed in its order in an empty folder."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from metric_catalogue import listed, scraped

from infra import parts

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.partition(" #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]

NOTIFY = """
[ways.nobody]
kind = "command"
command = ["true"]
[[routes]]
name = "all"
ways = ["nobody"]
"""


@pytest.mark.timeout(600)
def test_readme_commands_work_as_written(tmp_path: Path) -> None:
    (tmp_path / "infra" / "demo").mkdir(parents=True)
    for name in ("demo_mast.json", "demo_mast.dat"):
        shutil.copy(ROOT / "infra" / "demo" / name, tmp_path / "infra" / "demo")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("TELLTALE_DIR", "TELLTALE_KAFKA", "TELLTALE_DATABASE"):
        env.pop(name, None)
    (tmp_path / "notify.toml").write_text(NOTIFY)
    # With every service that there is, and logs that can be read by a program.
    env |= {
        "TELLTALE_NOTIFY_CONFIG": str(tmp_path / "notify.toml"),
        "TELLTALE_BACKUP_EVERY": "12h",
        "TELLTALE_BACKUP_VERIFY": "false",
        "TELLTALE_LOG_FORMAT": "json",
    }
    commands = [shlex.split(command) for command in COMMANDS]
    assert ["telltale", "settle", "--timeout", "60"] in commands
    try:
        for command in commands:
            if command == ["telltale", "down"]:
                look_inside(tmp_path, env)
            if command[0] in ("telltale", "cp"):
                run(command, tmp_path, env)
            else:
                # `make demo` has a test of its own, `make test` is this one; the environment is there already.
                assert command[0] in ("make", ".")
    finally:
        subprocess.run(["telltale", "down", "--remove"], cwd=tmp_path, env=env, check=False, capture_output=True)


def look_inside(folder: Path, env: dict[str, str]) -> None:
    """What the processes of a stack that has worked say of themselves: metrics, health, logs."""
    shown = subprocess.run(["telltale", "status", "--json"], cwd=folder, env=env, check=True, capture_output=True)
    where = {each["name"]: each["metrics"] for each in json.loads(shown.stdout)["services"] if each["metrics"]}
    assert where.keys() == parts.declared().keys() - {"topics"}
    said: dict[str, str] = {}
    for name, url in where.items():
        said[name] = httpx.get(url, trust_env=False).text
        for path in ("healthz", "readyz"):
            answer = httpx.get(url.removesuffix("metrics") + path, trust_env=False)
            assert (answer.status_code, answer.json()["service"]) == (200, name), answer.text
        log = (folder / ".telltale" / "logs" / f"{name}.log").read_text()
        for event in map(json.loads, log.splitlines()):
            assert list(event)[:4] == ["ts", "level", "event", "service"]
            assert event["service"] == name
    found = {entry.name for text in said.values() for entry in scraped(text)}
    assert found == {name for name in listed() if not name.startswith("telltale_edge_")}
    assert not re.search(r"^telltale_stage_readings_total 0", said["streams"], re.MULTILINE)
    assert re.search(r'^telltale_sink_rows_total{table="readings",way="copy"} [1-9]', said["sink"], re.MULTILINE)
    targets = json.loads((folder / ".telltale" / "prometheus-targets.json").read_text())
    assert {each["labels"]["service"]: f"http://{each['targets'][0]}/metrics" for each in targets} == where


def heed_ctrl_c() -> None:
    """As in a person's terminal: what runs in the background of a script ignores Ctrl-C, and its children do too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(command: list[str], folder: Path, env: dict[str, str]) -> None:
    """Run it to its end; one that follows a topic is left with Ctrl-C once it has shown something."""
    follows = command[1:3] == ["alarms", "tail"] and "--no-follow" not in command
    if follows:
        command = [*command, "--from-beginning"] if "--from-beginning" not in command else command
    # Output goes to a file: a detached stack keeps its descriptors, and a pipe would never end.
    log = folder / "said.txt"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=said,
            stderr=said,
            preexec_fn=heed_ctrl_c,  # noqa: PLW1509 - one call, and no other thread runs
        )
        if follows:
            until = time.monotonic() + 120
            while not log.stat().st_size and process.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(timeout=240)  # `up` starts ten processes, on whatever machine
        finally:
            process.kill()
            process.wait()
    assert code == (130 if follows else 0), f"{shlex.join(command)}\n{log.read_text()[-2000:]}"

"""The README's commands, typed in its order in an empty folder."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.partition(" #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]


@pytest.mark.timeout(420)
def test_readme_commands_work_as_written(tmp_path: Path) -> None:
    for name, source in (("mast.json", "demo_mast.json"), ("mast.dat", "demo_mast.dat")):
        shutil.copy(ROOT / "infra" / "demo" / source, tmp_path / name)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for name in ("TELLTALE_DIR", "TELLTALE_KAFKA", "TELLTALE_DATABASE"):
        env.pop(name, None)
    commands = [shlex.split(command) for command in COMMANDS]
    assert ["telltale", "settle", "--timeout", "60"] in commands
    try:
        for command in commands:
            if command[0] == "telltale":
                run(command, tmp_path, env)
            else:
                assert command[0] == "make"  # `make demo` has a test of its own; `make test` is this one
    finally:
        subprocess.run(["telltale", "down", "--remove"], cwd=tmp_path, env=env, check=False, capture_output=True)


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
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(timeout=120)
        finally:
            process.kill()
            process.wait()
    assert code == (130 if follows else 0), f"{shlex.join(command)}\n{log.read_text()[-2000:]}"

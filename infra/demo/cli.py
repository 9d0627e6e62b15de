"""`telltale demo`: drives the same commands that a person would type, and checks what came of it by counting."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click

from schemas.errors import Refused, Unavailable

DEVICE = "demo-mast"
SILENCE_LIMIT_S = 5.0
SILENCE = ("device_silent", "station_silent")
LAST_ROWS = 6  # of the month; kept back, so that the silent mast has something to say again
HEADER_ROWS = 4
ALARM_S_MAX = 60.0
SETTLE_S_MAX = 180.0


@click.command()
@click.option(
    "--dir", "folder", default=".telltale-demo", show_default=True, metavar="DIR", help="The demo's own stack."
)
@click.option("--keep", is_flag=True, help="Leave the stack running.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the table as one JSON object.")
def demo(folder: str, keep: bool, as_json: bool) -> None:
    """A month of a real mast through the whole way, checked by counting.

    Starts a stack in a folder of its own, imports the mast's data model, sends its 10-minute data, waits until all is
    stored, counts, and shows one alarm being raised and cleared. Nothing is left running.
    """
    place = Path(folder).absolute()
    if (place / "state.json").exists():
        raise Refused(f"{place} holds a stack already; remove it with: telltale down --dir {folder} --remove")
    if place.is_dir() and any(place.iterdir()):
        raise Refused(f"{place} is not empty, and the demo deletes its folder at the end: name one that is not there")
    with _stack(place, keep=keep):
        table = _run(place)
    if as_json:
        click.echo(json.dumps(table))
    else:
        _show(table, place, keep=keep)
    if table["stored"] != table["accepted"] or table["twice"] or not table["alarms_cleared"]:
        raise SystemExit(1)


@contextmanager
def _stack(place: Path, *, keep: bool) -> Iterator[None]:
    try:
        _say("starting broker, database and services")
        _telltale(place, "up", "--detach", env={} if keep else {"TELLTALE_KAFKA_BRIEF": "true"})
        yield
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            _say("stopping")
            _telltale(place, "down", "--remove")


def _run(place: Path) -> dict[str, Any]:
    from infra import stack
    from infra.demo.tally import tally

    kafka = stack.locate(place).kafka
    if kafka is None:
        raise Unavailable(f"the stack in {place} has no broker")
    month, rest = _split(place)
    _say("importing the mast's data model")
    with as_file(files("infra.demo") / "demo_mast.json") as model:
        _telltale(place, "stations", "import", str(model), "--silence-limit", str(SILENCE_LIMIT_S))
    _say("sending a month of 10-minute data")
    began = time.monotonic()
    accepted = _send(place, month)
    _telltale(place, "settle", "--timeout", str(SETTLE_S_MAX))
    seconds = time.monotonic() - began
    _say(f"the mast falls silent; its limit is {SILENCE_LIMIT_S:.0f} s")
    raised = _await_alarm(kafka, "raised")
    _say(f"alarm: {raised.data.message}")
    _say("the mast speaks again")
    accepted_later = _send(place, rest)
    cleared = _await_alarm(kafka, "cleared")
    _say(f"alarm: {cleared.data.message}")
    _telltale(place, "settle", "--timeout", str(SETTLE_S_MAX))
    _say("counting")
    found = tally(kafka)
    stored = json.loads(_telltale(place, "readings", "count", "--json", shown=False))["total"]
    states = [event.data.state.value for event in found.alarms if event.data.rule in SILENCE]
    late = (raised.time - raised.data.onset).total_seconds() - SILENCE_LIMIT_S
    return {
        "frames": found.frames,
        "accepted": accepted + accepted_later,
        "stored": stored,
        "twice": found.twice,
        "calibrated": found.calibrated,
        "suspect": found.suspect,
        "rejected": found.rejected,
        "windows": found.windows,
        "alarms_raised": states.count("raised"),
        "alarms_cleared": states.count("cleared"),
        "readings_per_s": round(accepted / seconds),
        "first_alarm_after_limit_s": round(late, 2),
    }


def _split(place: Path) -> tuple[Path, Path]:
    """The month but its last rows, and those, as two logger files."""
    lines = (files("infra.demo") / "demo_mast.dat").read_text().splitlines(keepends=True)
    month, rest = place / "month.dat", place / "rest.dat"
    month.write_text("".join(lines[:-LAST_ROWS]), newline="")
    rest.write_text("".join([*lines[:HEADER_ROWS], *lines[-LAST_ROWS:]]), newline="")
    return month, rest


def _send(place: Path, file: Path) -> int:
    """Readings that the edge has accepted."""
    summary = json.loads(_telltale(place, "edge", "send", str(file), "--device", DEVICE, "--json", shown=False))
    return int(summary["accepted"])


def _await_alarm(kafka: str, state: str) -> Any:
    from infra.demo.tally import read_all
    from schemas.alarms import read_alarm
    from schemas.topics import ALARMS

    until = time.monotonic() + ALARM_S_MAX
    while time.monotonic() < until:
        for message in read_all(kafka, ALARMS):
            event = read_alarm(message.value())
            if event.data.state == state:
                return event
        time.sleep(0.1)
    raise Unavailable(f"no alarm was {state} within {ALARM_S_MAX:.0f} s")


def _telltale(place: Path, *words: str, shown: bool = True, env: Mapping[str, str] | None = None) -> str:
    """Run the command as a person would; its progress is shown, its result returned."""
    import os

    command = [sys.executable, "-m", "infra.command", *words]
    env = {**os.environ, **(env or {}), "TELLTALE_DIR": str(place)}
    for address in ("TELLTALE_KAFKA", "TELLTALE_DATABASE"):  # the demo is about its own stack
        env.pop(address, None)
    ran = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        click.echo(ran.stdout, nl=False, err=True)
        raise Unavailable(f"`telltale {' '.join(words)}` failed with exit code {ran.returncode}; {_logs(place)}")
    if shown and ran.stdout.strip():
        click.echo("".join(f"    {line}\n" for line in ran.stdout.rstrip().splitlines()), nl=False, err=True)
    return ran.stdout


def _logs(place: Path) -> str:
    """Where to read on; the logs outlive the stack's folder."""
    logs = place / "logs"
    if not logs.is_dir():
        return "its message stands above"
    kept = place.with_name(f"{place.name}-logs")
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return f"logs are in {kept}"


def _say(what: str) -> None:
    click.secho(f"» {what}", err=True, bold=True)


def _show(table: dict[str, Any], place: Path, *, keep: bool) -> None:
    for name, value in table.items():
        shown = f"{value:>12,}" if isinstance(value, int) else f"{value:>12}"
        click.echo(f"{name.replace('_', ' '):<28}{shown}")
    if table["alarms_raised"] > table["alarms_cleared"]:
        click.echo("(the month is over, so that the mast has fallen silent again: that alarm stands)")
    right = table["stored"] == table["accepted"] and not table["twice"]
    click.secho("stored = accepted, nothing twice" if right else "stored and accepted DIFFER", bold=True)
    if keep:
        on_path = "" if shutil.which("telltale") else f"\n  . {Path(sys.prefix) / 'bin' / 'activate'}"
        click.echo(
            f"""
It is still up. Look further:{on_path}
  export TELLTALE_DIR={place}
  telltale status
  telltale alarms tail --from-beginning
  telltale readings show --sensor {DEVICE}/Spd80mN --limit 10
  telltale kafka kafka-consumer-groups --describe --all-groups
  telltale down --remove"""
        )
    else:
        click.echo(
            "\nLeave it running with: make demo ARGS=--keep. Next: README.md, the section on sending your own data."
        )

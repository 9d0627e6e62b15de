"""`telltale recalibrate`. The composition root."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from infra import stack
from infra.caller import caller
from infra.counted import counted
from infra.database import told_in_one_line
from infra.options import DATABASE

if TYPE_CHECKING:
    from sinks.timescale.recalibration.work import Run


@click.command()
@click.argument("sensor", metavar="[DEVICE/CHANNEL]", required=False)
@click.option("--station", metavar="ID", help="All sensors of this station instead of one.")
@click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given.")
@click.option("--to", "end", metavar="TIME", help="Before this time.")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object at the end.")
@DATABASE
def recalibrate(
    *,
    sensor: str | None,
    station: str | None,
    begin: str | None,
    end: str | None,
    dry_run: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """Calibrate stored readings anew: from the logged values, by the calibrations now valid.

    Works in slices beside a running sink; after Ctrl-C or a crash the same command goes on where it stood. Running it
    twice changes nothing, and a replay of what was calculated before does not undo it. Gross range is judged anew, by
    the limits now configured; the other tests need neighbours, and stay as they were judged (`telltale replay` judges
    everything anew).

    \b
    telltale recalibrate mast-7/Spd80 --from 2024-05-01 --dry-run
    telltale recalibrate --station hill
    """

    from sinks.timescale.recalibration.selection import select
    from sinks.timescale.recalibration.work import connect, finish
    from sinks.timescale.recalibration.work import recalibrate as runs_of
    from sinks.timescale.upkeep import recompress, refresh

    with told_in_one_line(), connect(stack.database_dsn(database)) as connection:
        chosen = select(connection, sensor=sensor, station=station, begin=begin, end=end)
        for name in chosen.left_out:
            click.echo(f"{name}: no longer configured; left as it is", err=True)
        runs = []
        for run in runs_of(connection, chosen, author=caller(), dry_run=dry_run, report=_progress()):
            runs.append(run)
            if not as_json:
                _tell(run, dry_run=dry_run)
        touched = [run for run in runs if run.changed_from is not None and run.changed_to is not None]
        if touched and not dry_run:
            first = min(run.changed_from for run in touched if run.changed_from)
            last = max(run.changed_to for run in touched if run.changed_to)
            refresh(connection, first, last)
            recompress(connection)
        if not dry_run:
            finish(connection, runs)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "sensors": [_plain(run) for run in runs]}))
    elif not runs:
        click.echo("no readings there; nothing to do")


def _progress() -> "Callable[[Run], None]":
    """A line that is written over on a terminal; elsewhere nothing."""
    from sinks.timescale.recalibration.work import share

    if not sys.stderr.isatty():
        return lambda _: None
    return lambda run: click.echo(
        f"\r{run.sensor.name}  {share(run):4.0%}  {counted(run.rows, 'row')}, {run.changed:,} changed\033[K",
        err=True,
        nl=run.reached >= run.ends,
    )


def _tell(run: "Run", *, dry_run: bool) -> None:
    told = run.summary.told()
    resumed = ", resumed" if run.is_resumed else ""
    change = f", by {told['largest_change']:.6g} at most" if told["largest_change"] is not None else ""
    done = "would change" if dry_run else "changed"
    click.echo(f"{run.sensor.name}: {counted(run.rows, 'reading')}, {run.changed:,} {done}{change}{resumed}")
    if not run.is_settled:
        click.echo("  readings calibrated as before still arrive: run it again when the sink has caught up", err=True)
    if run.changed:
        for side in ("before", "after"):
            figures = [
                f"{name} {told[side][name]:.6g}" for name in ("mean", "min", "max") if told[side][name] is not None
            ]
            figures += [
                f"{name.replace('_', ' ')} {told[side][name]:,}"
                for name in ("suspect", "failed", "not_calibrated")
                if told["before"][name] or told["after"][name]
            ]
            click.echo(f"  {side:<7} {', '.join(figures)}")


def _plain(run: "Run") -> dict[str, Any]:
    return {
        "sensor": run.sensor.name,
        "from": run.begins.isoformat(),
        "to": run.ends.isoformat(),
        "readings": run.rows,
        "changed": run.changed,
        "resumed": run.is_resumed,
        "settled": run.is_settled,
        **run.summary.told(),
    }

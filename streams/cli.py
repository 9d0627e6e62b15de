"""`telltale streams`: run a worker of the stream stage. `telltale quality`: try limits on a file."""

from pathlib import Path

import click

from infra.options import KAFKA, Bounded

STUCK_S = 120.0
"""A worker's event loop that has not turned for so long hangs: twice what it waits for its first reading of topics."""


@click.group()
def streams() -> None:
    """The stage that validates, calibrates, windows and alarms."""


@streams.command()
@KAFKA
def run(kafka: str | None) -> None:
    """Run one worker, until SIGTERM or Ctrl-C. Any number may run; partitions are shared out among them."""
    import structlog

    from infra import events
    from infra.stack import kafka_address
    from infra.telemetry import probing
    from infra.telemetry import tracing as tracing_
    from infra.telemetry.health import Health
    from infra.telemetry.serving import serving
    from infra.version import our_version
    from streams.agents.app import Stage
    from streams.settings import StreamsSettings

    settings, address = StreamsSettings(), kafka_address(kafka)
    events.configure(settings.log_level, service="streams")
    health = Health("streams", stuck_s=STUCK_S)
    tracing = tracing_.start("streams", version=our_version(), log=structlog.get_logger())
    stage = Stage(address, settings, health=health, tracing=tracing)
    try:
        with serving(health, probes={"broker": probing.broker(address)}):
            stage.run()
    finally:
        if tracing is not None:
            tracing.end()


@streams.command()
@KAFKA
@click.option(
    "--sample",
    "sample_s",
    type=Bounded(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long rates are measured.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="For scripts: totals and a list of partitions, as one JSON object."
)
def status(kafka: str | None, sample_s: float, as_json: bool) -> None:
    """Each partition: where it stands, how far behind, whose it is.

    `lag s` is how long the oldest record that waits has waited, `event lag s` how old its first reading is.

    Exit code 1 if a partition has no owner.
    """
    import json
    from dataclasses import asdict

    from infra.stack import kafka_address
    from streams.agents.status import status as look

    found = look(kafka_address(kafka), sample_s=sample_s)
    orphans = [each.partition for each in found if each.owner is None]
    if as_json:
        totals = {
            "owners": len({each.owner for each in found if each.owner}),
            "lag_records": sum(each.lag_records for each in found),
            "lag_s": max(each.lag_s for each in found),
            "records_per_s": round(sum(each.records_per_s or 0 for each in found), 1),
            "generation": max((each.generation or 0 for each in found), default=0),
        }
        click.echo(json.dumps({**totals, "partitions": [asdict(each) for each in found]}))
    else:
        click.echo(
            f"{'partition':>9}  {'generation':>10}  {'offset':>10}  {'lag':>9}  {'lag s':>8}  {'event lag s':>11}  "
            f"{'records/s':>9}  {'devices':>7}  {'last commit':>11}  owner"
        )
        for each in found:
            age = "never" if each.last_commit_age_s is None else f"{each.last_commit_age_s:.0f} s ago"
            event_lag = "-" if each.event_lag_s is None else f"{each.event_lag_s:.1f}"
            click.echo(
                f"{each.partition:>9}  {'-' if each.generation is None else each.generation:>10}  "
                f"{'-' if each.offset is None else each.offset:>10}  {each.lag_records:>9,}  {each.lag_s:>8.1f}  "
                f"{event_lag:>11}  {each.records_per_s or 0:>9,.0f}  "
                f"{'-' if each.devices is None else each.devices:>7}  {age:>11}  {each.owner or 'NOBODY'}"
            )
    if orphans:
        click.echo(f"nobody works on the partitions {', '.join(map(str, orphans))}", err=True)
        raise SystemExit(1)


@click.group()
def quality() -> None:
    """Limits of the quality tests: try them on a file before they are deployed."""


@quality.command("try")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--limits",
    "limits_file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="LIMITS.TOML",
    help="interval_s and the tables of a sensor's limits (streams/README.md shows one).",
)
@click.option("--channel", "channel", metavar="NAME", help="Only this column; else all.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the flags of each row as one JSON object.")
@click.option(
    "--rows", "rows_shown", type=click.IntRange(min=0), default=50, show_default=True, metavar="N", help="Show so many."
)
def try_limits(file: Path, *, limits_file: Path, channel: str | None, as_json: bool, rows_shown: int) -> None:
    """Run the stage's quality tests over a file.

    FILE is a logger file or a CSV of `time,value`; values are taken as they stand in it.

    \b
    telltale quality try mast.dat --limits limits.toml --channel Spd80mN
    """
    import orjson

    from schemas.errors import Refused
    from streams.trial import report
    from streams.trial.limits_file import read_limits
    from streams.trial.rows import read_rows

    asked = read_limits(limits_file)
    rows = read_rows(file)
    if channel is not None and channel not in rows.columns:
        raise Refused(f'{file.name} has no column "{channel}" (columns: {", ".join(rows.columns)})')
    chosen = rows.columns if channel is None else (channel,)
    found = report.verdicts(rows, asked, chosen, where=str(limits_file))
    if as_json:
        click.echo(orjson.dumps(report.as_json(rows, found, several=len(chosen) > 1)))
        return
    for line in report.as_text(rows, found, shown_max=rows_shown):
        click.echo(line)

"""`telltale streams`: run a worker of the stream stage. `telltale quality`: try limits on a file."""

from pathlib import Path

import click


@click.group()
def streams() -> None:
    """The stage that validates, calibrates, windows and alarms."""


@streams.command()
@click.option("--kafka", metavar="HOST:PORT", help="Broker; else TELLTALE_KAFKA, else the stack in TELLTALE_DIR.")
def run(kafka: str | None) -> None:
    """Run one worker until it is stopped. Any number may run; partitions are shared out among them."""
    from infra import events
    from infra.stack import kafka_address
    from streams.agents.app import Stage
    from streams.settings import StreamsSettings

    settings = StreamsSettings()
    events.configure(settings.log_level)
    Stage(kafka_address(kafka), settings).run()


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
@click.option("--json", "as_json", is_flag=True, help="Print flags of each row as JSON.")
@click.option("--rows", "rows_shown", type=click.IntRange(min=0), default=50, show_default=True, metavar="N")
def try_limits(file: Path, *, limits_file: Path, channel: str | None, as_json: bool, rows_shown: int) -> None:
    """Run the stage's quality tests over a logger file or a `time,value` CSV, values as they stand in the file."""
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

"""`telltale edge run`: starts what an edge.toml says."""

from pathlib import Path

import click


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    default=Path("edge.toml"),
    show_default=True,
    help="What this edge does; producers/README.md explains it.",
)
@click.option("--check", is_flag=True, help="Only say whether the file is good.")
@click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_EDGE_KAFKA or what the file says.")
def run(*, path: Path, check: bool, kafka: str | None) -> None:
    """Run the sources of an edge.toml, until SIGTERM or Ctrl-C."""
    from infra.stack import kafka_address
    from producers.config import read_config
    from producers.running import run as run_edge

    config = read_config(path)
    if check:
        names = ", ".join(config.name_of(number) for number in range(len(config.source)))
        click.echo(f"{path} is good: {names} for {', '.join(config.devices)}")
        return
    waiting = run_edge(config, address=kafka_address(kafka or config.settings.kafka))
    click.echo(f"ended; {waiting:,} readings wait in the spool" if waiting else "ended; all readings are acknowledged")

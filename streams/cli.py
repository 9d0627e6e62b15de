"""`telltale streams`: run a worker of the stream stage."""

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

"""`telltale streams`: run a worker of the stream stage."""

import click


@click.group()
def streams() -> None:
    """The stage that validates, calibrates, windows and alarms."""


@streams.command()
@click.option("--kafka", metavar="HOST:PORT", help="Broker; else TELLTALE_KAFKA, else the stack in TELLTALE_DIR.")
def run(kafka: str | None) -> None:
    """Run one worker until it is stopped. Any number may run; partitions are shared out among them."""
    import logging

    import structlog
    from faust.worker import Worker

    from infra.stack import kafka_address
    from streams.agents.app import Stage
    from streams.settings import StreamsSettings

    settings = StreamsSettings()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper()))
    )
    stage = Stage(kafka_address(kafka), settings)
    worker = Worker(stage.app, loglevel="warning", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it writes control characters into the log
    worker.execute_from_commandline()

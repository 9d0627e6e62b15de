"""`telltale dashboard` and `telltale token`. The composition root of the web service."""

import click

from infra import events, stack

KAFKA = click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
DATABASE = click.option("--database", metavar="DSN", help="The database; by default TELLTALE_DATABASE or the stack's.")


@click.group()
def dashboard() -> None:
    """Pages and REST API in one service."""


@dashboard.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; 127.0.0.1 unless TELLTALE_DASHBOARD_HOST.")
@click.option("--port", type=click.IntRange(1, 65_535), help="8080 unless TELLTALE_DASHBOARD_PORT.")
@KAFKA
@DATABASE
def run(host: str | None, port: int | None, kafka: str | None, database: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from dashboard.web.app import create_app
    from dashboard.web.running import serve
    from dashboard.web.settings import WebSettings

    said = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = WebSettings().model_copy(update=said)
    dsn, address = stack.database_dsn(database), stack.kafka_address(kafka)
    events.configure()
    app = create_app(settings, database=dsn, kafka=address)
    serve(app, host=settings.host, port=settings.port)

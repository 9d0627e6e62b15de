"""Options that many commands have, said once, so that they read alike everywhere."""

import click

KAFKA = click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object.")
DATABASE = click.option("--database", metavar="DSN", help="The database; by default TELLTALE_DATABASE or the stack's.")

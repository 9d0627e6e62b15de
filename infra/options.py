"""Options that many commands have, said once, so that they read alike everywhere."""

import math
from typing import Any

import click


class Bounded(click.FloatRange):
    """A number within bounds. `nan` is beyond none and less than none, so that waits for it would have no end."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return found


KAFKA = click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object.")
DATABASE = click.option("--database", metavar="DSN", help="The database; by default TELLTALE_DATABASE or the stack's.")

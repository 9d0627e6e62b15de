"""The audit log: who did what, when, on what, and what came of it."""

from typing import Any

from psycopg.types.json import Jsonb
from starlette.requests import HTTPConnection

from dashboard.web.access import Principal
from dashboard.web.pools import Database

NOTE = """
INSERT INTO audit_log (who, way, what, subject, outcome, detail, address) VALUES (%s, %s, %s, %s, %s, %s, %s)"""


async def note(
    db: Database,
    request: HTTPConnection,
    principal: Principal | None,
    what: str,
    *,
    subject: str = "",
    outcome: str = "done",
    who: str | None = None,
    **detail: Any,
) -> None:
    """Adds a line. `outcome`: done, refused, failed. `who` names somebody who is not (yet) a principal."""
    async with db.connection() as connection:
        await connection.execute(
            NOTE,
            (
                who or (principal.name if principal else "nobody"),
                principal.way if principal else "nobody",
                what,
                subject,
                outcome,
                Jsonb(detail),
                request.client.host if request.client else "",
            ),
        )

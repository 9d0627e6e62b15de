"""The pipeline: what waits where, who works, what the database holds, backups, replays, versions."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, Response

from dashboard.live.pipeline import Pipeline, look
from dashboard.pages.render import fragment, page
from dashboard.pages.serving import running_of
from dashboard.web.access import Role, database, need
from dashboard.web.pools import Database
from dashboard.web.state import web_of
from infra.backup.folder import Folder
from infra.backup.settings import BackupSettings
from infra.version import our_version
from schemas.errors import Unavailable

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/pipeline", include_in_schema=False, dependencies=[Depends(need(Role.VIEWER))])
Db = Annotated[Database, Depends(database)]

DATABASE = """
SELECT current_setting('server_version') AS server,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
  current_setting('timescaledb.license', true) AS licence, pg_database_size(current_database()) AS bytes,
  (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
  (SELECT max(name) FROM migrations) AS migration"""
FEATURES = """
SELECT DISTINCT split_part(name, '.', 2) AS feature FROM migrations
WHERE split_part(name, '.', 2) IN ('plain', 'timescaledb', 'views', 'aggregates') ORDER BY 1"""
FEATURE_WORDS = {
    "plain": "readings partitioned by month",
    "timescaledb": "hypertables",
    "views": "statistics as views",
    "aggregates": "continuous aggregates and compression",
}
# Rows are the planner's estimate, null where it has none yet: counting them would read them.
TABLES = """
SELECT c.relname AS name, sum(pg_total_relation_size(p.oid))::bigint AS bytes,
  CASE WHEN max(p.reltuples) >= 0 THEN sum(greatest(p.reltuples, 0))::bigint END AS rows
FROM pg_class c CROSS JOIN LATERAL (
  SELECT c.oid, c.reltuples UNION ALL SELECT i.inhrelid, k.reltuples FROM pg_inherits i JOIN pg_class k
    ON k.oid = i.inhrelid WHERE i.inhparent = c.oid) p
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
GROUP BY 1 ORDER BY 2 DESC LIMIT 12"""
SINK = """
SELECT topic, count(*)::int AS partitions, sum(next_offset)::bigint AS position, max(generation) AS generation,
  max(updated_at) AS moved, count(DISTINCT owner)::int AS owners
FROM sink_offsets GROUP BY topic ORDER BY topic"""
REPLAYS = """
SELECT topic, count(*)::int AS partitions, max(generation) AS generation, min(stood_at) AS stood_at,
  min(moved_to) AS moved_to, reason, max(time) AS time
FROM replays GROUP BY topic, reason, date_trunc('minute', time) ORDER BY time DESC LIMIT 10"""
RECALIBRATIONS = """
SELECT s.device_id || '/' || s.channel AS sensor, r.author, r.started, r.finished, r.rows, r.changed
FROM recalibrations r JOIN sensors s USING (sensor_id) ORDER BY r.recalibration_id DESC LIMIT 10"""
REJECTED = """
SELECT reason, count(*)::int AS records, sum(rows)::bigint AS rows, max(time) AS time FROM rejected
WHERE time > now() - interval '7 days' GROUP BY reason ORDER BY rows DESC LIMIT 10"""
VERSIONS = """
SELECT version, count(DISTINCT device_id)::int AS devices FROM heartbeats
WHERE received > now() - interval '1 day' GROUP BY version ORDER BY version"""
KEEPING = "SELECT series, keep, horizon FROM retention ORDER BY series"


@router.get("")
async def pipeline(request: Request) -> Response:
    """The page; what is in it comes right behind and is looked up anew every ten seconds."""
    return page(request, "pipeline.html", title="Pipeline")


@router.get("/state")
async def state(request: Request, db: Db) -> Response:
    """What is looked up."""
    kafka, backups = await asyncio.gather(asyncio.to_thread(_kafka, web_of(request).kafka), asyncio.to_thread(_backups))
    about = await db.first(DATABASE)
    features = [FEATURE_WORDS[row["feature"]] for row in await db.rows(FEATURES)]
    hub = running_of(request).hub
    told: dict[str, Any] = {
        "kafka": kafka,
        "backups": backups,
        "about": about,
        "features": features,
        "tables": await db.rows(TABLES),
        "sink": await db.rows(SINK),
        "replays": await db.rows(REPLAYS),
        "recalibrations": await db.rows(RECALIBRATIONS),
        "rejected": await db.rows(REJECTED),
        "versions": await db.rows(VERSIONS),
        "keeping": await db.rows(KEEPING),
        "pools": {"pages": web_of(request).pools.pages.figures(), "API": web_of(request).pools.api.figures()},
        "pages": len(hub),
        "version": our_version(),
        "now": datetime.now(UTC),
    }
    return HTMLResponse(fragment("pipeline_state.html", **told))


def _kafka(address: str | None) -> Pipeline | str:
    """What the broker says, or why it does not."""
    if address is None:
        return "this dashboard was started without a broker"
    try:
        return look(address)
    except Unavailable as error:
        return str(error)


def _backups() -> dict[str, Any]:
    settings = BackupSettings()
    folder = Folder(settings.place())
    try:
        found = folder.backups()
    except OSError as error:
        return {"folder": str(folder.path), "trouble": error.strerror, "backups": [], "every": settings.every}
    return {"folder": str(folder.path), "trouble": None, "backups": found[:8], "every": settings.every}

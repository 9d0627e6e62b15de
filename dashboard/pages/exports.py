"""Exports: a form, and jobs with their progress. Jobs are started, followed and fetched through the API."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from dashboard.exports.request import Figure, Format, Interval
from dashboard.flags.stored import CATEGORIES
from dashboard.pages.render import page
from dashboard.pages.serving import running_of
from dashboard.web.access import Role, database, need
from dashboard.web.pools import Database

router = APIRouter(prefix="/exports", include_in_schema=False, dependencies=[Depends(need(Role.VIEWER))])
Db = Annotated[Database, Depends(database)]

STATISTICS = "SELECT DISTINCT statistic FROM sensors WHERE active AND statistic IS NOT NULL ORDER BY 1"
FORMATS = {
    Format.WINDOGRAPHER: "Windographer text",
    Format.CSV: "CSV",
    Format.PARQUET: "Parquet",
    Format.ZIP: "zip, one text file for each sensor type",
    Format.IEA43: "IEA Task 43 data model",
}
INTERVALS = {
    Interval.AS_LOGGED: "as logged",
    Interval.TEN_MINUTES: "10 minutes",
    Interval.HOUR: "hours",
    Interval.DAY: "days",
}


@router.get("")
async def exports(request: Request, db: Db) -> Response:
    """The page."""
    stations = running_of(request).live.stations()
    told = {
        name: {each.device_id: [sensor.channel for sensor in each.sensors] for each in devices}
        for name, devices in stations.items()
    }
    return page(
        request,
        "exports.html",
        title="Exports",
        stations={name: devices[0].station.name for name, devices in stations.items()},
        told=orjson.dumps(told).decode(),
        statistics=[row["statistic"] for row in await db.rows(STATISTICS)],
        categories=await db.rows(CATEGORIES),
        formats=FORMATS,
        intervals=INTERVALS,
        figures=list(Figure),
    )

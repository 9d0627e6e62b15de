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

STATISTICS = "SELECT DISTINCT statistic FROM sensors WHERE statistic IS NOT NULL ORDER BY 1"
# What was removed from the configuration, and may have readings.
REMOVED = """
SELECT d.station_id, t.name AS station_name, d.device_id, array_agg(s.channel ORDER BY s.sensor_id) AS channels
FROM devices d JOIN stations t USING (station_id) JOIN sensors s USING (device_id)
WHERE NOT d.active GROUP BY 1, 2, 3 ORDER BY 1, 3"""
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
    names = {name: devices[0].station.name for name, devices in stations.items()}
    told = {
        name: {each.device_id: [sensor.channel for sensor in each.sensors] for each in devices}
        for name, devices in stations.items()
    }
    for row in await db.rows(REMOVED):
        names.setdefault(row["station_id"], row["station_name"])
        told.setdefault(row["station_id"], {}).setdefault(row["device_id"], row["channels"])
    return page(
        request,
        "exports.html",
        title="Exports",
        stations=names,
        told=orjson.dumps(told).decode(),
        statistics=[row["statistic"] for row in await db.rows(STATISTICS)],
        categories=await db.rows(CATEGORIES),
        formats=FORMATS,
        intervals=INTERVALS,
        figures=list(Figure),
    )

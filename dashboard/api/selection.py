"""Which sensors a request means. One statement, whatever names it used."""

from typing import Annotated, Any

from fastapi import Query

from dashboard.api.params import Text
from dashboard.web.pools import Database
from dashboard.web.problems import Problem

SENSORS_MAX = 2_000
"""Of one request: a large site. More is an export job."""

CHOSEN = """
SELECT s.sensor_id, s.device_id, s.channel, s.device_id || '/' || s.channel AS sensor, d.station_id, s.quantity, s.unit,
  s.statistic, s.height_m, d.interval_s
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(numbers)s::int[] IS NULL AND %(names)s::text[] IS NULL
       OR s.sensor_id = ANY (%(numbers)s) OR s.device_id || '/' || s.channel = ANY (%(names)s))
  AND (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
ORDER BY s.sensor_id LIMIT %(limit)s"""

Sensors = Annotated[
    list[Text] | None,
    Query(alias="sensor", max_length=500, description="DEVICE/CHANNEL or a sensor's number; may be repeated."),
]


async def sensors_of(
    db: Database, sensor: list[str] | None, *, device: str | None, station: str | None
) -> list[dict[str, Any]]:
    """The sensors meant, by number. Raises `Problem`: 404 for an unknown name, 413 for too many, 422 for none."""
    if not sensor and not device and not station:
        raise Problem(422, "say which: sensor=DEVICE/CHANNEL (may be repeated), device=ID or station=ID")
    numbers = [int(each) for each in sensor or () if each.isascii() and each.isdecimal() and len(each) < 10]
    names = [each for each in sensor or () if "/" in each]
    for each in sensor or ():
        if each not in names and not (each.isascii() and each.isdecimal() and len(each) < 10):
            raise Problem(422, f'sensor: expected DEVICE/CHANNEL or a number, got "{each}"')
    arguments = {
        "numbers": numbers if sensor else None,
        "names": names if sensor else None,
        "device": device,
        "station": station,
        "limit": SENSORS_MAX + 1,
    }
    found = await db.rows(CHOSEN, arguments)
    known = {each["sensor"] for each in found} | {str(each["sensor_id"]) for each in found}
    for each in sensor or ():
        if each not in known and (not each.isdecimal() or str(int(each)) not in known):
            raise Problem(
                404, f"sensor {each} is not known here" + (" at this device or station" if device or station else "")
            )
    if not found:
        raise Problem(404, f"{'device ' + device if device else 'station ' + str(station)} has no sensors here")
    if len(found) > SENSORS_MAX:
        raise Problem(413, f"more than {SENSORS_MAX:,} sensors: choose fewer, or start an export job")
    return found

"""What each SensorThings entity is in our tables: its rows, its properties, links, JSON. Knows SQL; asks nobody.

A Thing is a device, a Datastream one of its sensors, an Observation a reading, a Sensor the instrument that is or was
last behind a datastream, an ObservedProperty a quantity; a Location and a FeatureOfInterest are a station.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dashboard.sensorthings.query import Property, bad

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """`rows` selects `id` and what the rest needs; `links`: a column of theirs and one of ours."""

    name: str
    one: str
    rows: str
    properties: Mapping[str, Property]
    told: Callable[[Row], dict[str, Any]]
    links: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """By name: which entity, its column, our column whose value it must have."""
    order: str = "id"
    is_numbered: bool = False
    counted: str | None = None
    """The same rows without what counting them does not need."""
    key: Callable[[str], Mapping[str, Any]] | None = None
    """Where the id is no column: the columns that it stands for."""


THINGS = """
SELECT device_id AS id, name, station_id, interval_s, silence_limit_s, exists_from, active FROM devices"""
LOCATIONS = """
SELECT station_id AS id, name, latitude_deg, longitude_deg, elevation_m FROM stations"""
DATASTREAMS = """
SELECT s.sensor_id AS id, s.device_id, s.channel, s.point, s.quantity, s.unit, s.statistic, s.height_m,
  s.boom_orientation_deg, s.active, f.time AS first_time, l.time AS last_time
FROM sensors s
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) l ON true"""
DATASTREAMS_COUNTED = """
SELECT sensor_id AS id, device_id, channel, quantity, unit, statistic, height_m FROM sensors"""
SENSORS = """
SELECT s.sensor_id AS id, s.channel, s.point, c.instrument, c.serial, c.valid_from
FROM sensors s LEFT JOIN LATERAL (
  SELECT instrument, serial, valid_from FROM calibrations WHERE sensor_id = s.sensor_id
  ORDER BY place DESC LIMIT 1) c ON true"""
OBSERVED = """
SELECT quantity AS id, count(*) AS sensors FROM sensors WHERE quantity IS NOT NULL GROUP BY quantity"""
OBSERVATIONS = """
SELECT r.sensor_id, r.time, r.logged, r.value, r.quality, r.tests FROM readings r"""


def quoted(value: Any) -> str:
    """An id as it stands in a URL: a `/`, `?` or `#` of its own ends neither segment nor path."""
    return str(value) if isinstance(value, int) else "'" + quote(str(value).replace("'", "''"), safe="'") + "'"


def finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value  # noqa: PLR0124 - NaN


def said(time: datetime) -> str:
    text = time.astimezone(UTC).isoformat(timespec="milliseconds" if time.microsecond % 1000 == 0 else "microseconds")
    return text.replace("+00:00", "Z")


def _thing(row: Row) -> dict[str, Any]:
    about = {name: row[name] for name in ("station_id", "interval_s", "silence_limit_s", "active")}
    return {"name": row["name"], "description": f"Device {row['id']}", "properties": about}


def _location(row: Row) -> dict[str, Any]:
    point = None
    if row["latitude_deg"] is not None and row["longitude_deg"] is not None:
        place = [row["longitude_deg"], row["latitude_deg"]]
        place += [row["elevation_m"]] if row["elevation_m"] is not None else []
        point = {"type": "Point", "coordinates": place}
    return {"name": row["name"], "description": f"Station {row['id']}", "encodingType": "application/geo+json"} | {
        "location": point
    }


def _feature(row: Row) -> dict[str, Any]:
    told = _location(row)
    told["feature"] = told.pop("location")
    return told


def _datastream(row: Row) -> dict[str, Any]:
    about = ("channel", "point", "statistic", "height_m", "boom_orientation_deg", "active")
    told: dict[str, Any] = {
        "name": f"{row['device_id']}/{row['channel']}",
        "description": f"{row['statistic'] or 'values'} of {row['quantity'] or 'an unknown quantity'}",
        "observationType": "http://www.opengis.net/def/observationType/OGC-OM/2.0/OM_Measurement",
        "unitOfMeasurement": {"name": row["unit"], "symbol": row["unit"], "definition": None},
        "properties": {name: row[name] for name in about},
    }
    if row["first_time"] is not None:
        told["phenomenonTime"] = f"{said(row['first_time'])}/{said(row['last_time'])}"
    return told


def _sensor(row: Row) -> dict[str, Any]:
    return {
        "name": row["instrument"] or row["point"] or row["channel"],
        "description": f"Instrument behind {row['channel']}",
        "encodingType": "text/plain",
        "metadata": f"serial {row['serial']}" if row["serial"] else "no serial number is known",
        "properties": {
            "serial": row["serial"],
            "calibrated_from": said(row["valid_from"]) if row["valid_from"] else None,
        },
    }


def _observed(row: Row) -> dict[str, Any]:
    words = str(row["id"]).replace("_", " ")
    definition = f"urn:telltale:quantity:{quote(str(row['id']), safe='')}"
    return {"name": row["id"], "definition": definition, "description": words.capitalize()}


def _observation(row: Row) -> dict[str, Any]:
    time = said(row["time"])
    return {
        "phenomenonTime": time,
        "resultTime": time,
        "result": finite(row["value"]),
        "resultQuality": row["quality"],
        "parameters": {"logged": finite(row["logged"]), "tests": row["tests"]},
    }


def observation_id(row: Row) -> str:
    """Sensor and microseconds since 1970."""
    micros = (row["time"] - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    return f"{row['sensor_id']}-{micros}"


_MICROSECOND = datetime(1970, 1, 1, 0, 0, 0, 1) - datetime(1970, 1, 1)  # noqa: DTZ001 - a difference has no zone


def _observation_key(text: str) -> dict[str, Any]:
    sensor, _, micros = text.partition("-")
    number, most = (sensor + micros).isascii() and sensor.isdecimal() and micros.lstrip("-").isdecimal(), 8 * 10**15
    if not number or int(sensor) > 2**31 - 1 or abs(int(micros)) > most:
        raise bad("the id of an observation is SENSOR-MICROSECONDS")
    return {"sensor_id": int(sensor), "time": datetime(1970, 1, 1, tzinfo=UTC) + int(micros) * _MICROSECOND}


def _id(column: Property, of: str = "") -> dict[str, Property]:
    """Both names of an id, of the entity itself or of one it belongs to."""
    return {f"{of}id": column, f"{of}@iot.id": column}


ID, NUMBER, SENSOR_ID = Property("id", "text"), Property("id", "number"), Property("sensor_id", "number")
NAMED = _id(ID) | {"name": Property("name", "text")}
ENTITIES: dict[str, Entity] = {
    each.name: each
    for each in (
        Entity(
            name="Things",
            one="Thing",
            rows=THINGS,
            properties=NAMED | {"properties/station_id": Property("station_id", "text")},
            told=_thing,
            links={"Locations": ("Locations", "id", "station_id"), "Datastreams": ("Datastreams", "device_id", "id")},
        ),
        Entity(
            name="Locations",
            one="Location",
            rows=LOCATIONS,
            properties=NAMED,
            told=_location,
            links={"Things": ("Things", "station_id", "id")},
        ),
        Entity(
            name="Datastreams",
            one="Datastream",
            rows=DATASTREAMS,
            properties=_id(NUMBER)
            | _id(Property("device_id", "text"), "Thing/")
            | {
                "name": Property("(device_id || '/' || channel)", "text"),
                "unitOfMeasurement/symbol": Property("unit", "text"),
                "unitOfMeasurement/name": Property("unit", "text"),
                "properties/statistic": Property("statistic", "text"),
                "properties/height_m": Property("height_m", "number"),
                "ObservedProperty/id": Property("quantity", "text"),
                "ObservedProperty/name": Property("quantity", "text"),
            },
            told=_datastream,
            links={
                "Thing": ("Things", "id", "device_id"),
                "Sensor": ("Sensors", "id", "id"),
                "ObservedProperty": ("ObservedProperties", "id", "quantity"),
                "Observations": ("Observations", "sensor_id", "id"),
            },
            is_numbered=True,
            counted=DATASTREAMS_COUNTED,
        ),
        Entity(
            name="Sensors",
            one="Sensor",
            rows=SENSORS,
            properties=_id(NUMBER) | {"name": Property("coalesce(instrument, point, channel)", "text")},
            told=_sensor,
            links={"Datastreams": ("Datastreams", "id", "id")},
            is_numbered=True,
        ),
        Entity(
            name="ObservedProperties",
            one="ObservedProperty",
            rows=OBSERVED,
            properties=_id(ID) | {"name": ID},
            told=_observed,
            links={"Datastreams": ("Datastreams", "quantity", "id")},
        ),
        Entity(
            name="Observations",
            one="Observation",
            rows=OBSERVATIONS,
            properties=_id(SENSOR_ID, "Datastream/")
            | {
                "phenomenonTime": Property("time", "time"),
                "resultTime": Property("time", "time"),
                "result": Property("nullif(value, 'NaN')", "number"),
                "resultQuality": Property("quality", "number"),
            },
            told=_observation,
            links={
                "Datastream": ("Datastreams", "id", "sensor_id"),
                "FeatureOfInterest": ("FeaturesOfInterest", "sensor_id", "sensor_id"),
            },
            order="sensor_id, time",
            key=_observation_key,
        ),
        Entity(
            name="FeaturesOfInterest",
            one="FeatureOfInterest",
            rows=LOCATIONS,
            properties=NAMED,
            told=_feature,
        ),
    )
}

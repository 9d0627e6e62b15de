"""What pages are told, as messages: pure, from the fleet and the alarms that stand. Times in milliseconds; 0: none.

`t` says what one is: `s` a whole picture, `d` what changed, `l` tiles alone, `e` events at once, `p` spark lines.
"""

from collections.abc import Collection
from typing import Any

import orjson

from dashboard.live.fleet import Fleet
from schemas.alarms import AlarmEvent

ALARMS_SHOWN = 200
"""Alarms in one message. A flood of thousands must not fill every page's memory; the page says how many there are."""
LOUD = frozenset({"raised", "latched"})


def encoded(message: dict[str, Any]) -> bytes:
    """One message for pages. NaN is null."""
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def told_alarm(event: AlarmEvent) -> dict[str, Any]:
    """An alarm as pages get it; times in milliseconds."""
    alarm = event.data
    return {
        "id": alarm.alarm_id,
        "rule": alarm.rule,
        "source": alarm.source,
        "device": alarm.device_id,
        "station": alarm.station_id,
        "severity": alarm.severity,
        "state": alarm.state,
        "reason": alarm.reason,
        "message": alarm.message,
        "onset": round(alarm.onset.timestamp() * 1000),
        "time": round(event.time.timestamp() * 1000),
        "who": alarm.who,
        "why": alarm.why,
        "until": round(alarm.until.timestamp() * 1000) if alarm.until else None,
    }


def counts(alarms: Collection[AlarmEvent]) -> dict[str, int]:
    """Of alarms that stand."""
    return {"standing": len(alarms), "unacknowledged": sum(event.data.state in LOUD for event in alarms)}


def rows(fleet: Fleet, numbers: Any) -> dict[str, Any]:
    """Columns of what changes, for these sensors."""
    return {
        "v": fleet.column("value")[numbers],
        "f": fleet.column("flag")[numbers],
        "s": fleet.column("state")[numbers],
        "h": fleet.column("heard")[numbers] // 1000,
        "e": fleet.column("time")[numbers] // 1000,
        "q": fleet.column("share")[numbers],
    }


def device_rows(fleet: Fleet) -> dict[str, Any]:
    """Columns of what changes, for all devices."""
    return {"s": fleet.device_state, "h": fleet.device_heard // 1000, "b": fleet.device_beat // 1000}


def events(told: Collection[AlarmEvent], imported: list[dict[str, Any]], *, standing: int) -> dict[str, Any]:
    """What is told at once."""
    message: dict[str, Any] = {"t": "e", "imports": imported}
    if told:
        shown = list(told)[:ALARMS_SHOWN]
        message |= {"alarms": [told_alarm(event) for event in shown], "standing": standing}
    return message


def changes(fleet: Fleet, numbers: Any, tiles: dict[str, Any]) -> dict[str, Any]:
    """What changed since the last one."""
    return {"t": "d", "i": numbers} | rows(fleet, numbers) | {"devices": device_rows(fleet), "tiles": tiles}


def light(alarms: Collection[AlarmEvent], tiles: dict[str, Any]) -> dict[str, Any]:
    """The picture of pages that show no fleet: alarms, the latest first, and tiles."""
    order = sorted(alarms, key=lambda event: event.data.onset, reverse=True)
    shown = [told_alarm(event) for event in order[:ALARMS_SHOWN]]
    return {"t": "s", "alarms": shown, "standing": len(order), "tiles": tiles}


def picture(fleet: Fleet, alarms: Collection[AlarmEvent], tiles: dict[str, Any]) -> dict[str, Any]:
    """All of it."""
    return light(alarms, tiles) | {
        "sensors": {
            "device": fleet.column("device"),
            "channel": fleet.channels,
            "unit": fleet.units,
            "quantity": fleet.quantities,
            "active": fleet.column("active").astype("i1"),
        }
        | rows(fleet, slice(None)),
        "devices": {
            "id": fleet.devices,
            "name": [facts.name for facts in fleet.facts],
            "station": [facts.station for facts in fleet.facts],
            "station_name": [facts.station_name for facts in fleet.facts],
            "interval_s": [facts.interval_s for facts in fleet.facts],
            "limit_s": [facts.limit_us / 1e6 for facts in fleet.facts],
            "active": [int(facts.active) for facts in fleet.facts],
            "offset_min": [facts.offset_min for facts in fleet.facts],
        }
        | device_rows(fleet),
    }

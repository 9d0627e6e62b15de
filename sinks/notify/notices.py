"""Who is to be told what, and when. Pure: alarm events and the time in, notices out.

An alarm's event becomes one item for each way of each route that takes it. Items of one group wait together, then leave
as one notice. What is inhibited or falls into quiet hours is held, and goes when that ends, if it still matters.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.alarms import STANDING, Alarm, AlarmEvent, AlarmState
from sinks.notify.config import RANK, Config, Route

SILENCED = frozenset({AlarmState.SUPPRESSED, AlarmState.SHELVED})
UNHEARD = frozenset({AlarmState.RAISED})
"""Of an alarm in these states nobody has taken notice: it is told again where the route says so."""


@dataclass(frozen=True, slots=True)
class Item:
    """One event for one way of one route, waiting to be told."""

    event: AlarmEvent
    route: str
    way: str
    group: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """What leaves as one message. Its id is the same however often it is made from the same items."""

    notice_id: str
    way: str
    route: str
    group: str
    events: tuple[AlarmEvent, ...]
    repeat: bool = False  # told again: nothing has changed since


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now."""

    notices: list[Notice]
    dropped: list[Item]  # held until they no longer mattered


def items(event: AlarmEvent, config: Config, *, now: datetime, avoid: str | None = None) -> Iterator[Item]:
    """For whom the event is. Replayed ones are for nobody: they were told when they happened.

    `avoid` is a way that does not work: alarms about it go by the others, by any other if no route has one.
    """
    alarm = event.data
    if alarm.replayed:
        return
    told = set()
    for route in config.routes:
        if alarm.state not in route.states or not route.takes(alarm):
            continue
        for way in route.ways:
            if way != avoid and way not in told:
                told.add(way)
                yield Item(event, route.name, way, route.group(alarm), now)
    if not told and avoid is not None and alarm.state in (AlarmState.RAISED, AlarmState.CLEARED):
        for way in config.ways:
            if way != avoid:
                yield Item(event, config.routes[0].name, way, config.routes[0].group(alarm), now)


def hidden(alarm: Alarm, config: Config, standing: Mapping[str, Alarm]) -> bool:
    """Whether a standing alarm is the reason not to speak of this one."""
    return any(rule.hidden(alarm, cause) for rule in config.inhibit for cause in standing.values())


def due(
    waiting: Sequence[Item],
    standing: Mapping[str, Alarm],
    config: Config,
    *,
    told: Collection[tuple[str, str]],
    now: datetime,
) -> Due:
    """What is to be told now of what waits.

    Args:
        standing: alarms that are not over, by id.
        told: (way, alarm id) of alarms that were told as raised.
    """
    routes = {route.name: route for route in config.routes}
    notices, dropped = [], []
    for (route_name, way, group), members in _grouped(waiting).items():
        route = routes.get(route_name)
        if route is None or way not in config.ways:  # the file has changed since
            dropped += members
            continue
        needless = _needless(members, route, standing, config, told)
        dropped += [item for item in members if item.event.id in needless]
        ready = [
            item
            for item in members
            if item.event.id not in needless and not _held(item.event.data, route, standing, config, now)
        ]
        if ready and now >= min(item.since for item in ready) + timedelta(seconds=route.wait_s):
            ready.sort(key=lambda item: (RANK[item.event.data.severity], item.event.time, item.event.id))
            notices.append(_notice(route_name, way, group, [item.event for item in ready]))
    return Due(notices, dropped)


def _needless(
    members: Sequence[Item],
    route: Route,
    standing: Mapping[str, Alarm],
    config: Config,
    told: Collection[tuple[str, str]],
) -> set[str]:
    """Events that nobody needs to hear of any more."""
    needless = set()
    over = {item.event.data.alarm_id for item in members if item.event.data.state == AlarmState.CLEARED}
    for item in members:
        alarm = item.event.data
        if alarm.state != AlarmState.RAISED:
            continue
        latest = standing.get(alarm.alarm_id)
        unseen = latest is None or alarm.alarm_id in over
        if (latest is not None and latest.state in SILENCED) or (unseen and hidden(alarm, config, standing)):
            needless.add(item.event.id)
    raised = {
        item.event.data.alarm_id
        for item in members
        if item.event.data.state == AlarmState.RAISED and item.event.id not in needless
    }
    for item in members:  # of what was never told, the end is not told either
        alarm = item.event.data
        unknown = alarm.alarm_id not in raised and (item.way, alarm.alarm_id) not in told
        if alarm.state == AlarmState.CLEARED and unknown and AlarmState.RAISED in route.states:
            needless.add(item.event.id)
    return needless


def _held(alarm: Alarm, route: Route, standing: Mapping[str, Alarm], config: Config, now: datetime) -> bool:
    """Whether it has to wait for the end of its cause, or of quiet hours."""
    if alarm.state != AlarmState.CLEARED and hidden(alarm, config, standing):
        return True
    quiet = route.quiet
    return quiet is not None and RANK[alarm.severity] >= RANK[quiet.holds] and quiet.covers(now)


def repeats(
    last_told: Mapping[tuple[str, str, str], datetime],
    latest: Iterable[AlarmEvent],
    config: Config,
    *,
    now: datetime,
) -> list[Notice]:
    """Groups whose alarms still stand without anybody having taken notice, for as long as their route says.

    Args:
        last_told: (route, way, group) to when it was told last.
        latest: the last event of each standing alarm.
    """
    unheard = [e for e in latest if e.data.state in UNHEARD and not e.data.replayed]
    standing = {event.data.alarm_id: event.data for event in unheard}
    found = []
    for route in config.routes:
        if route.repeat_s is None or (route.quiet is not None and route.quiet.covers(now)):
            continue
        for (name, way, group), at in last_told.items():
            if name != route.name or way not in config.ways or now < at + timedelta(seconds=route.repeat_s):
                continue
            events = [
                event
                for event in unheard
                if route.takes(event.data)
                and route.group(event.data) == group
                and not hidden(event.data, config, standing)
            ]
            if events:
                found.append(_notice(name, way, group, events, repeat=at))
    return found


def _grouped(waiting: Sequence[Item]) -> dict[tuple[str, str, str], list[Item]]:
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in waiting:
        groups.setdefault((item.route, item.way, item.group), []).append(item)
    return groups


def _notice(
    route: str, way: str, group: str, events: Sequence[AlarmEvent], *, repeat: datetime | None = None
) -> Notice:
    said = "|".join((route, way, group, repeat.isoformat() if repeat else "", *(event.id for event in events)))
    return Notice(
        hashlib.sha256(said.encode()).hexdigest()[:24], way, route, group, tuple(events), repeat=repeat is not None
    )


def first_words(latest: Collection[AlarmEvent]) -> list[AlarmEvent]:
    """What a notifier that starts with an old log has to say: the alarms that stand, none of those long over."""
    return sorted((event for event in latest if event.data.state in STANDING), key=lambda event: event.time)

"""What `alarms` has told of some alarms: read from the topic, of one alarm in order. Knows the broker, no rule."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from infra.whole_topic import read_to_end
from schemas.alarms import STANDING, AlarmEvent, read_alarm, supersedes
from schemas.columnar import Unreadable
from schemas.topics import ALARMS

GROUP = "telltale-told-alarms"


def told(kafka: str, alarm_ids: Collection[str], *, since: datetime | None = None) -> Iterator[AlarmEvent]:
    """Events of these alarms, all or those since a time. Raises `Unavailable`."""
    keys = {each.encode() for each in alarm_ids}
    since_ms = None if since is None else round(since.timestamp() * 1000)
    for message in read_to_end(kafka, ALARMS, group=GROUP, since_ms=since_ms):
        if message.key() in keys and message.value() is not None:
            with suppress(Unreadable):  # somebody else's record
                yield read_alarm(message.value())


def last(events: Iterable[AlarmEvent]) -> dict[str, AlarmEvent]:
    """How each alarm stands, by its id."""
    found: dict[str, AlarmEvent] = {}
    for event in events:
        known = found.get(event.data.alarm_id)
        if known is None or supersedes(event, known):
            found[event.data.alarm_id] = event
    return found


def stands(kafka: str, alarm_id: str) -> bool:
    """Whether an alarm has been told and is not over. Raises `Unavailable`."""
    event = last(told(kafka, [alarm_id])).get(alarm_id)
    return event is not None and event.data.state in STANDING

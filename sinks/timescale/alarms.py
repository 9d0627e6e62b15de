"""The sink's own alarms: a neighbour has been away for long, or the log has lost what comes next.

`Waits` and the alarms are pure. `over` looks for alarms whose cause is gone and whose sink is not there to say so: it
was killed, or it had to stop.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient

from schemas.alarms import Alarm, AlarmEvent, AlarmState, Severity, alarm_id
from schemas.topics import SINK_GROUP
from sinks.timescale.batch import Part
from sinks.timescale.positions import SINK

WAITING = "sink_waiting"
LOG_LOST = "log_lost"
CLIENT = "telltale-sink-{}"
"""How a sink is called in its group; the place is for the owner."""
SOURCE = "sink/timescale/{}"
ANSWER_S = 10.0

# What was last said of our alarms that are not over.
STANDING = """
SELECT DISTINCT ON (a.alarm_id) e.event->'data'
FROM alarms a JOIN alarm_events e USING (alarm_id)
WHERE a.rule = ANY (%s) AND a.state <> 'cleared'
ORDER BY a.alarm_id, e.time DESC"""
GENERATIONS = "SELECT topic, part, generation FROM sink_offsets WHERE sink = %s"


def lost_id(part: Part, generation: int) -> str:
    """The alarm's id for as long as nobody has said from where to go on; a sink that tries again raises the same."""
    return alarm_id(LOG_LOST, SOURCE.format(part), generation)


def log_lost(part: Part, *, generation: int, now: datetime, detail: str) -> Alarm:
    """The log does not hold what comes next."""
    return Alarm(
        alarm_id=lost_id(part, generation),
        rule=LOG_LOST,
        source=SOURCE.format(part),
        device_id=None,
        station_id=None,
        severity=Severity.CRITICAL,
        state=AlarmState.RAISED,
        reason="offset_out_of_range",
        onset=now,
        message=f"{part}: {detail}",
    )


@dataclass(slots=True)
class Waits:
    """One sink's waiting for a neighbour: raised once it lasts longer than `limit_s`. Clocks are given."""

    owner: str
    limit_s: float
    standing: Alarm | None = None

    def waiting(self, lasting_s: float, *, why: str, detail: str, now: datetime) -> Alarm | None:
        """Say that the sink waits, and for how long; an alarm to be told, if it is time for one."""
        if self.standing is not None or lasting_s < self.limit_s:
            return None
        source, onset = SOURCE.format(self.owner), now - timedelta(seconds=lasting_s)
        self.standing = Alarm(
            alarm_id=alarm_id(WAITING, source, onset.isoformat()),
            rule=WAITING,
            source=source,
            device_id=None,
            station_id=None,
            severity=Severity.MAJOR,
            state=AlarmState.RAISED,
            reason=why,
            onset=onset,
            value=round(lasting_s, 1),
            limit=self.limit_s,
            unit="s",
            message=f"Nothing has been stored for {lasting_s:.0f} s ({detail}). Nothing is lost: readings wait in "
            "Kafka and are stored once the cause is gone; see `telltale sink status` and the database's log.",
        )
        return self.standing

    def working(self) -> Alarm | None:
        """Say that the neighbour is back; the alarm's end to be told, if one stands."""
        if self.standing is None:
            return None
        over, self.standing = self.standing.over("The sink stores again."), None
        return over


def ours(event: AlarmEvent) -> bool:
    """Whether a sink has said that an alarm of its own stands."""
    return event.data.rule in (WAITING, LOG_LOST) and event.data.state != AlarmState.CLEARED


def over(connection: psycopg.Connection[Any], admin: AdminClient) -> list[Alarm]:
    """The ends of alarms that nobody else will end: their sink is gone, or an operator has said from where to go on.

    Raises `psycopg.Error`, `KafkaException`.
    """
    standing = [Alarm.model_validate(row[0]) for row in connection.execute(STANDING, ([WAITING, LOG_LOST],))]
    if not standing:
        return []
    described = admin.describe_consumer_groups([SINK_GROUP], request_timeout=ANSWER_S)[SINK_GROUP].result(ANSWER_S)
    alive = {member.client_id for member in described.members}
    lost = {lost_id(Part(topic, part), at) for topic, part, at in connection.execute(GENERATIONS, (SINK,))}
    ended = []
    for alarm in standing:
        if alarm.rule == WAITING and CLIENT.format(alarm.source.removeprefix(SOURCE.format(""))) not in alive:
            ended.append(alarm.over("The sink that waited is gone; another one stores."))
        elif alarm.rule == LOG_LOST and alarm.alarm_id not in lost:
            ended.append(alarm.over("An operator has said from where to go on."))
    return ended

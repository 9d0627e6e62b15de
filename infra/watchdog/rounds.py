"""The watchdog's rounds: looks, decides, tells. One thread, no state but in the alarms' file and this object."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import structlog

from infra import stack
from infra.audit import journal
from infra.http_request import ask
from infra.kafka.cluster import NUMBERS, names
from infra.kept_alarms import KeptAlarms
from infra.logs import log_file
from infra.security.strangers import LogEnd, Strangers, Try, tries
from infra.watchdog import measured, probes
from infra.watchdog.findings import NO_ANSWER, SEVERITY, Filling, Finding, Patience, Progress, Restarts, Rule
from infra.watchdog.rejected import RejectedRecords
from infra.watchdog.settings import WatchdogSettings
from infra.watchdog.shelves import Shelves
from schemas.alarms import AlarmEvent
from schemas.errors import Unavailable

log = structlog.get_logger(__name__)

ALIVE_S_MAX = 5.0


@dataclass(slots=True)
class Rounds:
    """Looks at one stack. `database_name` is how its backups are called."""

    kafka: str
    database: str
    database_name: str
    folder: Path
    settings: WatchdogSettings
    alarms: KeptAlarms
    clock: Callable[[], datetime]
    inbox: Path
    progress: Progress = field(default_factory=Progress)
    filling: Filling = field(default_factory=Filling)
    restarts: Restarts = field(default_factory=Restarts)
    bad: list[str] = field(default_factory=list)
    """What was amiss at the last look."""
    broker_logs: list[LogEnd] = field(init=False)
    rejected: RejectedRecords = field(init=False)
    refused: dict[Rule, Strangers] = field(init=False)
    """Of late."""
    patience: Patience = field(init=False)
    shelves: Shelves = field(init=False)

    def __post_init__(self) -> None:
        # Of all nodes that there may be; a log that is not there says nothing.
        self.broker_logs = [LogEnd(log_file(self.folder, name)) for number in NUMBERS for name in names(number)]
        calm = timedelta(seconds=self.settings.calm_s)
        self.shelves = Shelves(self.kafka)
        self.rejected = RejectedRecords(self.kafka, self.database, calm)
        self.refused = {Rule.STRANGER: Strangers(calm), Rule.UNUSABLE: Strangers(calm, others="device/others")}
        for rule, known in self.refused.items():  # alarms of this process's predecessor are to end too
            before = [source for standing, source in self.alarms.standing if standing == rule]
            known.note([Try(each, "before", f"{each} was refused before the restart") for each in before], self.clock())
        away = self.settings.unreachable_s
        self.patience = Patience(
            dict.fromkeys((Rule.BROKER, Rule.COPIES, Rule.DATABASE, Rule.TOPICS, Rule.CLOCK), away)
            | {Rule.SERVICE: self.settings.service_s}
        )

    def look(self) -> list[Finding]:
        """Everything once, however much of it is away."""
        now = self.clock()
        kafka = probes.broker(self.kafka)
        database = list(probes.database(self.database, self.settings, now))
        return [
            kafka,
            *(() if kafka.bad else self._of_kafka(now)),
            *database,
            *self._of_services(now, away=kafka.bad or any(f.rule == Rule.DATABASE and f.bad for f in database)),
            *probes.disks(probes.machine_folders(self.settings, self.folder), self.filling, self.settings, now),
            *probes.certificates(self.settings, now),
            *self._of_refused(now, away=kafka.bad),
            *probes.backups(self.database_name, self.settings, now),
        ]

    def _of_services(self, now: datetime, *, away: bool) -> Iterator[Finding]:
        """Nothing is said of them while a neighbour is away: they end and wait for it, and its alarm says why."""
        if away:
            self.restarts.forget()
            return
        yield from probes.services(self._recorded(), self.restarts, now)

    def _recorded(self) -> stack.Stack | None:
        try:
            return stack.recorded(self.folder)
        except Unavailable as error:
            log.warning("stack_not_read", detail=str(error))
            return None

    def _of_refused(self, now: datetime, *, away: bool) -> Iterator[Finding]:
        """Who was refused, by the broker's log and by what stage and sink have rejected."""
        found: dict[Rule, list[Try]] = {rule: [] for rule in self.refused}
        for log in self.broker_logs:
            found[Rule.STRANGER] += tries(log.lines())
        for rule, one in self.rejected.tries(now) if not away else ():
            found[rule].append(one)
        for rule, known in self.refused.items():
            yield from probes.strangers(found[rule], known, now, rule=rule)

    def _of_kafka(self, now: datetime) -> Iterator[Finding]:
        try:
            yield from probes.groups(self.kafka, self.progress, self.settings, now)
            yield probes.copies(self.kafka)
            yield probes.topics(self.kafka)
        except Unavailable as error:
            yield Finding(
                Rule.BROKER, "kafka", bad=True, said=f"Kafka answers some questions only: {error}", reason="half"
            )

    def turn(self) -> list[Finding]:
        """Looks, and tells what has changed: to Kafka, or past it while it is away. What was found."""
        with measured.LOOK.time():
            found = self.look()
        measured.LOOKED.is_now()
        measured.found(Rule, (finding.rule for finding in found if finding.bad))
        self.bad = [f"{finding.rule} ({finding.source})" for finding in found if finding.bad]
        measured.stack(self._recorded())
        now = self.clock()
        events = [event for finding in found if (event := self._judge(finding, now)) is not None]
        events += self._no_longer_there(found, now)
        away = any(each.rule == Rule.BROKER and each.bad and each.reason == NO_ANSWER for each in found)
        if away or not self.alarms.ring():  # a broker that has just not answered is not tried: people hear sooner
            for event in events:
                self._tell_directly(event)
        if any(finding.rule == Rule.DATABASE and not finding.bad for finding in found):
            journal.bring(journal.place(self.folder), self.database)
        if not away:
            self.shelves.look(now)
        self._alive()
        return found

    def _judge(self, finding: Finding, now: datetime) -> AlarmEvent | None:
        lasting = self.patience.lasting(finding, now)
        if lasting is None:
            return None
        if not lasting:
            return self.alarms.cleared(finding.rule, source=finding.source, now=now, message=finding.said)
        return self.alarms.raised(
            finding.rule,
            source=finding.source,
            severity=SEVERITY[finding.rule],
            reason=finding.reason,
            now=now,
            message=finding.said,
            value=finding.value,
            limit=finding.limit,
            unit=finding.unit,
        )

    def _no_longer_there(self, found: list[Finding], now: datetime) -> list[AlarmEvent]:
        """Tokens and certificates that were removed or replaced, and parts that a stack no longer has, are no trouble
        any more."""
        seen = {(finding.rule, finding.source) for finding in found}
        answer = {finding.rule for finding in found if not finding.bad}
        asked = {Rule.CERTIFICATE}
        asked |= {Rule.TOKEN} if Rule.DATABASE in answer else set()
        asked |= {Rule.SERVICE} if {Rule.DATABASE, Rule.BROKER} <= answer else set()
        gone = [key for key in self.alarms.standing if key not in seen and key[0] in asked]
        ends = [
            self.alarms.cleared(rule, source=source, now=now, message=f"{source} is no longer in use.")
            for rule, source in gone
        ]
        return [event for event in ends if event is not None]

    def _tell_directly(self, event: AlarmEvent) -> None:
        """For the notifier on this machine: a file, whole under its name or not there."""
        try:
            self.inbox.mkdir(parents=True, exist_ok=True)
            name = f"{event.time:%Y%m%dT%H%M%S%f}-{event.data.alarm_id}-{event.data.step}"
            coming = self.inbox / f".{name}.coming"
            coming.write_text(event.model_dump_json())
            coming.rename(self.inbox / f"{name}.json")
        except OSError as error:
            log.warning("not_told_directly", detail=error.strerror, id=event.data.alarm_id)

    def _alive(self) -> None:
        if self.settings.alive_url is None:
            return
        try:
            ask("GET", self.settings.alive_url, within_s=ALIVE_S_MAX)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            log.warning("alive_not_told", detail=str(error) or type(error).__name__)

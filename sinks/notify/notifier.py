"""The notifier's loop: takes events into the ledger, makes notices of them, has them carried. One thread decides; each
way has one of its own, so that a slow one holds nobody up."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import structlog

from infra.kept_alarms import KeptAlarms
from schemas.alarms import AlarmEvent, Severity
from sinks.notify import inbox, measured, notices
from sinks.notify.alarm_log import AlarmLog
from sinks.notify.config import Config
from sinks.notify.ledger import Ledger, Outgoing
from sinks.notify.ways.port import Carrier, Partly, Undelivered

log = structlog.get_logger(__name__)

UNDELIVERED = "notify_undelivered"
READ_S = 0.2  # how late SIGTERM and a due notice are noticed
DECIDE_S = 0.5
PAUSE_S, PAUSE_S_MAX = 1.0, 300.0
"""Between two tries: doubles from the first to the second. Longer would keep people waiting once it works again."""
RING_S = 30.0  # between two tries to bring our own alarms to Kafka: each may block for two seconds
FORGET = timedelta(hours=6)


class Notifier:
    """One per ledger."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        carriers: Mapping[str, Carrier],
        *,
        alarm_log: AlarmLog,
        alarms: KeptAlarms,
        inbox_folder: Path,
        clock: Callable[[], datetime],
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._ledger, self._carriers = config, ledger, carriers
        self._log, self._alarms, self._inbox, self._clock = alarm_log, alarms, inbox_folder, clock
        self._beat = beat
        self.waiting = self.undelivered = 0
        for way in carriers:
            measured.SENT.labels(way), measured.FAILED.labels(way)  # they are there, at 0, before anything happens
        self._threads = ThreadPoolExecutor(max(1, len(carriers)), thread_name_prefix="way")
        self._under_way: dict[str, tuple[Outgoing, Future[None]]] = {}
        start = clock()
        self._began = ledger.noted("began")
        if self._began is None:
            self._began = start.isoformat()
            ledger.note("began", self._began)
        self._first_words = ledger.noted("first_words") is not None
        self._turned_at = self._decide_at = self._ring_at = self._forget_at = start
        self._set_back(start)
        for notice in ledger.resume({name: carrier.once for name, carrier in carriers.items()}):
            log.warning("doubtful", way=notice.way, notice=notice.notice_id, alarms=len(notice.events))

    def run(self, stop: Event) -> None:
        """Until `stop`; what is being sent then is finished within its way's timeout."""
        try:
            while not stop.is_set():
                self.turn(READ_S)
        finally:
            self._threads.shutdown(wait=True)
            self._harvest(self._clock())
            self._log.close()

    def turn(self, wait_s: float) -> None:
        """Everything once."""
        self._beat()
        now = self._clock()
        if now < self._turned_at:
            log.warning("clock_set_back", by_s=round((self._turned_at - now).total_seconds(), 1))
            self._set_back(now)
        self._turned_at = now
        self._take_inbox(now)
        self._take_log(now, wait_s)
        self._harvest(now)
        if now >= self._decide_at:
            self._decide_at = now + timedelta(seconds=DECIDE_S)
            self._decide(now)
            self._judge_ways(now)
            self._measure()
        self._send(now)
        if now >= self._ring_at:
            self._ring_at = now + timedelta(seconds=0 if self._alarms.ring() else RING_S)
        if now >= self._forget_at:
            self._forget_at = now + FORGET
            self._ledger.forget(now=now)

    def _set_back(self, now: datetime) -> None:
        """The clock reads less than it did: nothing waits for it to come back to where it was."""
        self._turned_at = self._decide_at = self._ring_at = self._forget_at = now
        self._ledger.set_back(now=now)

    def _take_inbox(self, now: datetime) -> None:
        for path, event in inbox.arrived(self._inbox):
            self._take([event], {}, now)
            path.unlink(missing_ok=True)

    def _take_log(self, now: datetime, wait_s: float) -> None:
        if not self._log.open(self._ledger.positions, now_s=now.timestamp()):
            Event().wait(wait_s)
            return
        read = self._log.read(wait_s)
        if read.positions:
            self._take(read.events, read.positions, now)
            self._log.commit(read.positions)
        if not self._first_words and self._log.read_to_end:
            self._say_first_words(now)

    def _take(self, events: list[AlarmEvent], positions: dict[int, int], now: datetime) -> None:
        self._ledger.take(((event, self._items(event, now)) for event in events), positions=positions, now=now)

    def _items(self, event: AlarmEvent, now: datetime) -> list[notices.Item]:
        """What the log holds from before our time is noted, and told as first words if it stands. What comes behind
        that is news, whatever the clock of its speaker says."""
        if not self._first_words and event.time < datetime.fromisoformat(self._began or ""):
            return []
        return list(notices.items(event, self._config, now=now))

    def _say_first_words(self, now: datetime) -> None:
        """The log from before our time is known: what stands of it is told."""
        began = datetime.fromisoformat(self._began or "")
        old = [event for event in notices.first_words(self._ledger.standing()) if event.time < began]
        self._ledger.wait([item for event in old for item in notices.items(event, self._config, now=now)])
        self._ledger.note("first_words", now.isoformat())
        self._first_words = True

    def _decide(self, now: datetime) -> None:
        waiting, latest = self._ledger.waiting(), self._ledger.standing()
        standing = {event.data.alarm_id: event.data for event in latest}
        due = notices.due(waiting, standing, self._config, told=self._ledger.told() if waiting else (), now=now)
        again = notices.repeats(self._ledger.last_told(), latest, self._config, now=now) if latest else []
        if due.notices or due.dropped or again:
            self._ledger.make(due, again, now=now)

    def _send(self, now: datetime) -> None:
        """The oldest notice of each idle way, in order: a way that fails is not overtaken by its own later notices."""
        busy = set(self._under_way)
        for out in self._ledger.outgoing():
            way = out.notice.way
            if way in busy or way not in self._carriers:
                continue
            busy.add(way)
            if now >= out.next_try:
                self._ledger.sending(out.notice)
                self._under_way[way] = out, self._threads.submit(self._carry, out.notice)

    def _carry(self, notice: notices.Notice) -> None:
        try:
            with measured.SEND.labels(notice.way).time():
                self._carriers[notice.way].carry(notice)
        except Undelivered:
            raise
        except Exception as error:  # our bug, in one way: the others go on, and tell of it
            log.exception("way.threw", way=notice.way)
            raise Undelivered(f"{type(error).__name__}: {error}") from error

    def _harvest(self, now: datetime) -> None:
        for way, (out, future) in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[way]
            said = None
            try:
                try:
                    future.result()
                except Partly as error:
                    said = str(error)
                    log.warning("partly", way=way, notice=out.notice.notice_id, detail=said)
            except Undelivered as error:
                pause_s = min(PAUSE_S * 2 ** min(out.tries, 16), PAUSE_S_MAX)
                log.warning("undelivered", way=way, notice=out.notice.notice_id, detail=str(error), again_s=pause_s)
                self._ledger.failed(out.notice, str(error), now=now, pause_s=pause_s)
                measured.FAILED.labels(way).inc()
            else:
                log.info("sent", way=way, notice=out.notice.notice_id, alarms=len(out.notice.events))
                self._ledger.sent(out.notice, said=said)
                measured.SENT.labels(way).inc()
                measured.SENT_AT.is_now()

    def _measure(self) -> None:
        outgoing = Counter(out.notice.way for out in self._ledger.outgoing())
        self.waiting, self.undelivered = len(self._ledger.waiting()), outgoing.total()
        measured.WAITING.set(self.waiting)
        for way in self._carriers:
            measured.UNDELIVERED.labels(way).set(outgoing[way])

    def _judge_ways(self, now: datetime) -> None:
        """A way that has failed for long is an alarm, told by the others."""
        failing = {out.notice.way: out for out in reversed(self._ledger.outgoing()) if out.failing_since is not None}
        for way in self._carriers:
            source, out = f"notify/{way}", failing.get(way)
            if out is not None and out.failing_since is not None:
                lasting_s = (now - out.failing_since).total_seconds()
                if lasting_s < self._config.alarm_after_s:
                    continue
                event = self._alarms.raised(
                    UNDELIVERED,
                    source=source,
                    severity=Severity.MAJOR,
                    reason="undelivered",
                    now=now,
                    value=round(lasting_s, 1),
                    limit=self._config.alarm_after_s,
                    unit="s",
                    message=f'Nothing gets out by "{way}" ({out.said}). What was to be told waits and is tried again; '
                    "see `telltale notify status`.",
                )
            else:
                event = self._alarms.cleared(UNDELIVERED, source=source, now=now, message=f'"{way}" delivers again.')
            if event is not None:
                items = list(notices.items(event, self._config, now=now, avoid=way))
                self._ledger.take([(event, items)], now=now)

"""The sink's loop: polls Kafka, piles records up, hands a batch to the database as soon as it is free.

Polling never stops, whatever the database does: a consumer that does not poll loses its partitions and holds up every
rebalance. One thread polls, decodes, decides, and makes the next batch ready; one other does whatever waits for the
database. At most three batches are there at once: in hand, ready, piling up. Clocks are monotonic
seconds. Assignment is eager: each rebalance closes all partitions and opens what is then given.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.offsets import Mark
from infra.security.keys import Keyring
from infra.telemetry import tracing as traces
from infra.telemetry.health import Health
from infra.telling import Teller
from schemas.alarms import Alarm, AlarmEvent
from schemas.errors import Unavailable
from schemas.rejection import Rejection
from sinks.timescale import alarms, measured
from sinks.timescale.alarms import Waits
from sinks.timescale.batch import Batch, Entry, Part, Pile, Refusal
from sinks.timescale.claims import ANSWER_S, Identities
from sinks.timescale.decode import Decoder
from sinks.timescale.entries import Entries
from sinks.timescale.errands import Errands
from sinks.timescale.intake import Intake
from sinks.timescale.positions import Fenced, Position, Replay
from sinks.timescale.settings import SinkSettings
from sinks.timescale.standing import Outage, Standing
from sinks.timescale.store import Store
from sinks.timescale.writer import Waiting, Writer

log = structlog.get_logger(__name__)

POLL_S = 0.1  # how late SIGTERM is noticed when nothing comes
IDLE_S = 0.2  # how long records must have ceased before positions alone are stored
COMMIT_S = 0.2  # how often positions are told to Kafka, where they only show the lag
STUCK_S = 1.0  # how long the database may take before partitions are paused; pausing costs a new fetch
SOON_S = 0.005  # how often to look whether the batch in hand is on its way, so that the next can be made ready
LEAVE_S = 5.0  # how long a rebalance waits for the batch in hand; the fence makes more needless
LAST_S = 10.0  # what a sink that must stop gives the database for what is in hand, and the broker for the alarm
RETRY_S = 0.1


class LogLost(Unavailable):
    """The log no longer holds what comes next: records are lost, and a person must decide."""

    def __init__(self, part: Part, detail: str) -> None:
        super().__init__(f"{part}: {detail}")
        self.part, self.detail = part, detail


class Loop:
    """One sink process. `on_working` is called once when partitions and database are there."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        admin: AdminClient,
        decoder: Decoder,
        store: Store,
        writer: Writer,
        settings: SinkSettings,
        waits: Waits,
        teller: Teller,
        health: Health,
        end_of_batch: Callable[[Part, int], int],
        stands: Callable[[str], bool],
        tracing: traces.Tracing | None = None,
        on_working: Callable[[], None] = lambda: None,
        keyring: Keyring | None = None,
    ) -> None:
        self._consumer = consumer
        self._entries = Entries(decoder, keyring=keyring, is_traced=tracing is not None)
        self._store, self._writer, self._settings = store, writer, settings
        self._waits, self._teller, self._stands = waits, teller, stands
        self._on_working = on_working
        self._tracing = tracing
        self._health = health
        self._standing = Standing(health)
        self._pile = Pile(settings.rows_max, settings.bytes_max)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._job: Future[Any] | None = None
        self._work: tuple[Any, ...] = ()  # what the job does, to be tried again
        self._then: Callable[[Any, float], None] = self._stored
        self._job_since = 0.0
        self._given: list[Part] | None = None  # by the group, perhaps none; None: not a member
        self._open = False
        self._closed_until = 0.0
        self._positions: dict[Part, Position] = {}
        self._in_hand: Batch | None = None  # of the database's thread
        self._ready: Batch | None = None  # the one after it
        self._handed: dict[Part, int] = {}
        self._untold: dict[Part, int] = {}
        self._told_at = self._grew_at = 0.0
        self._paused = False
        self._outage: Outage | None = None
        self._intake = Intake(consumer)
        self._identities = Identities(admin)
        self._errands = Errands(consumer, admin, store, self._identities, end_of_batch)
        self._alarms_due = False  # to look for alarms that nobody else ends
        self._unpackable: dict[Part, tuple[int, str]] = {}  # where its batch begins, and what is wrong with it

    def run(self, stop: Event) -> None:
        """Until `stop`. Raises `LogLost`, `Unavailable` when Kafka refuses us, and our own bugs."""
        self._consumer.subscribe(
            self._entries.topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        try:
            while not stop.is_set():
                self._turn()
            self._leave()
        except LogLost as lost:
            self._store_the_rest()
            self._raise_lost(lost)
            raise
        finally:
            self._store.interrupt()
            self._worker.shutdown(wait=True)
            self._consumer.close()
            self._store.close()
            log.info("stopped", **self._writer.tally.told())

    def _turn(self) -> None:
        now = time.monotonic()
        self._health.beat()
        if self._standing.due(now):
            self._say_how_it_stands()
        self._watch(now)
        self._look(now)
        if self._job is not None:
            self._attend(now)
        elif self._outage is not None and now < self._outage.retry_at:
            self._read(min(POLL_S, self._outage.retry_at - now))
        elif self._outage is not None and self._open:
            self._start(*self._work, then=self._then)
        elif not self._open:
            if self._given is not None and now >= self._closed_until:
                self._start(self._errands.take_over, list(self._given), then=self._opened)
            else:
                self._read(POLL_S)
        elif self._unpackable:
            part, (begin, why) = next(iter(self._unpackable.items()))
            self._start(self._errands.find_end, part, begin, why, then=self._pass)
        elif self._alarms_due:
            self._start(self._errands.find_over, then=self._tell_over)
        elif self._due(now):
            self._hand_over()
        else:
            self._tell(now)
            self._read(min(POLL_S, self._settings.linger_ms / 1000) if len(self._pile) else POLL_S)

    def _due(self, now: float) -> bool:
        """Whether there is something to be stored now."""
        if self._ready is not None:
            return True
        if len(self._pile):
            return self._pile.full or now - self._grew_at >= self._settings.linger_ms / 1000
        return self._pile.moved and now - self._grew_at >= IDLE_S

    def _start(self, work: Callable[..., Any], *arguments: Any, then: Callable[[Any, float], None]) -> None:
        self._job, self._job_since = self._worker.submit(work, *arguments), time.monotonic()
        self._work, self._then = (work, *arguments), then

    def _hand_over(self) -> None:
        """The batch that is ready, else the pile, becomes the batch in hand."""
        batch = self._ready or self._pile.take()
        self._in_hand, self._ready = batch, None
        self._handed = {part: stretch.end for part, stretch in batch.stretches.items()}
        self._alarms_due |= any(isinstance(each.body, AlarmEvent) and alarms.ours(each.body) for each in batch.entries)
        self._writer.take(batch)
        self._start(self._writer.work, then=self._stored)

    def _watch(self, now: float) -> None:
        """An alarm when nothing has been stored for too long, whatever holds us up."""
        self._teller.turn()
        if self._outage is not None:
            since, why, detail = self._outage.since, self._outage.why, self._outage.detail
        elif self._job is not None:
            since, why, detail = self._job_since, "no_answer", "the database does not answer"
        else:
            return
        alarm = self._waits.waiting(now - since, why=why, detail=detail, now=datetime.now(UTC))
        if alarm is not None:
            self._teller.tell(alarm)

    def _say_how_it_stands(self) -> None:
        """For those who look from outside."""
        batches = [batch for batch in (self._in_hand, self._ready) if batch is not None]
        lag: dict[str, int] = {}
        for part, position in self._pile.positions.items():
            # What the last fetch said of the log's end; nobody is asked.
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*part), cached=True) or (0, 0)
            lag[part.topic] = lag.get(part.topic, 0) + max(0, end - position)
        for batch in batches:
            for part, stretch in batch.stretches.items():
                lag[part.topic] = lag.get(part.topic, 0) + stretch.end - stretch.start
        stamps = [self._pile.oldest_ms, *(batch.oldest_ms for batch in batches)]
        oldest = [stamp for stamp in stamps if stamp is not None]
        self._standing.say(
            partitions=len(self._positions) if self._open else None,
            lag=lag,
            oldest_ms=min(oldest, default=None),
            rows=self._pile.rows + sum(batch.rows for batch in batches),
        )

    def _look(self, now: float) -> None:
        """Takes topics over anew that are others than they were."""
        if self._open and (changed := self._identities.changed(now)):
            log.warning("topic_created_again", topics=changed)
            self._reopen(now)

    def _attend(self, now: float) -> None:
        """While the database works: read on, up to the pile's bound."""
        job = self._job
        assert job is not None  # noqa: S101 - asked by the caller
        is_under_way = self._in_hand is not None and self._in_hand.prepared is not None
        if self._pile.full and self._ready is None and is_under_way:
            self._ready = self._pile.take()
            self._store.foresee(self._ready)
        if not self._pile.full or self._paused:
            grew = self._read(0)
        else:
            grew = False
            if now - self._job_since > STUCK_S:
                self._pause()
        if self._job is job and not grew:
            wait([job], POLL_S / 2 if is_under_way or not self._pile.full else SOON_S)
        if self._job is job and job.done():
            self._job = None
            self._conclude(job, time.monotonic())

    def _conclude(self, job: Future[Any], now: float) -> None:
        """What has come of the job."""
        try:
            result = job.result()
        except Waiting as trouble:
            self._wait(trouble, now)
            return
        except Fenced as fenced:
            log.warning("fenced", parts=str(fenced))
            # If the group still counts us in after this, it was no successor: then we take over again.
            self._reopen(now + self._settings.session_timeout_ms / 1000)
            return
        if self._outage is not None:
            log.info("neighbour_back", why=self._outage.why, after_s=round(now - self._outage.since, 1))
            self._outage = self._standing.outage = None
        if (over := self._waits.working()) is not None:
            self._teller.tell(over)
        self._resume()
        self._then(result, now)

    def _stored(self, _: None, now: float) -> None:
        self._untold |= self._handed
        if self._in_hand is not None:
            self._standing.stored(self._in_hand)
            if self._tracing is not None:
                self._trace(self._in_hand, self._tracing, now)
        self._handed, self._in_hand = {}, None
        log.debug("stored", ms=round(1000 * (now - self._job_since), 1), **self._writer.tally.told())
        self._tell(now)

    def _trace(self, batch: Batch, tracing: traces.Tracing, now: float) -> None:
        if followed := batch.followed:
            about = {"records": len(batch.entries), "rows": batch.rows, "partitions": len(batch.stretches)}
            began_s = time.time() - (now - self._job_since)
            tracing.batch("sink.transaction", followed, began_s=began_s, attributes=about).end()

    def _reopen(self, at: float) -> None:
        """Gives up what is open, and takes it over anew at that time, if it is still ours."""
        self._close()
        self._consumer.assign([])
        self._closed_until = at

    def _wait(self, trouble: Waiting, now: float) -> None:
        """Tries again later, with pauses that double up to a bound."""
        before = self._outage
        pause_s = RETRY_S if before is None else min(2 * before.pause_s, self._settings.retry_s_max)
        since = self._job_since if before is None else before.since
        self._outage = Outage(trouble.why, trouble.detail, since, pause_s, now + pause_s)
        if before is None or before.detail[:5] != trouble.detail[:5]:  # another SQLSTATE is news
            log.warning("waiting", why=trouble.why, detail=trouble.detail)
        measured.WAITS.labels(trouble.why).inc()
        self._standing.outage = self._outage
        self._pause()

    def _read(self, timeout: float) -> bool:
        """Takes what has come, waiting up to `timeout` seconds for the first; whether there was anything."""
        settings, pile = self._settings, self._pile
        found = self._intake.take(timeout, rows=settings.rows_max - pile.rows, octets=settings.bytes_max - pile.bytes)
        before = len(pile), pile.rows, pile.bytes
        entries = iter(self._entries.of([message for message in found if message.error() is None]))
        for message in found:  # in their order: an end of a partition comes behind its records
            error = message.error()
            if error is not None:
                self._complaint(message, error)
            else:
                self._pile.add(next(entries))
        self._intake.learn(pile.rows - before[1], pile.bytes - before[2])
        if len(pile) > before[0] and (before[0] == 0 or self._settings.linger_ms == 0):
            self._grew_at = time.monotonic()
        return bool(found)

    def _complaint(self, message: Message, error: KafkaError) -> None:
        """An event that is no record."""
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._pile.reach(Part(message.topic(), message.partition()), message.offset())
            self._grew_at = time.monotonic()
        elif code == KafkaError._AUTO_OFFSET_RESET:
            if not self._open:
                return
            if self._identities.changed_now(message.topic()):
                log.warning("topic_created_again", topics=[message.topic()])
                self._reopen(time.monotonic())
                return
            raise LogLost(
                Part(message.topic(), message.partition()),
                f"the log does not hold offset {message.offset()}, which comes next ({error.str()}): "
                "records were lost before they were stored. To go on from what there is, stop the sink and reset "
                "the group's offset (telltale kafka kafka-consumer-groups.sh --reset-offsets)",
            )
        elif code == KafkaError._BAD_COMPRESSION:
            part = Part(message.topic(), message.partition())
            if part not in self._unpackable and part in self._positions:
                log.warning("unpackable", part=str(part), offset=message.offset(), detail=error.str())
                self._unpackable[part] = message.offset(), error.str()
                self._consumer.pause([TopicPartition(*part)])  # else it is fetched again and again
        elif error.fatal() or code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise Unavailable(f"Kafka: {error.str()}")
        else:
            log.warning("kafka", detail=error.str(), topic=message.topic())

    # --- partitions come and go; these are called inside poll and consume ---

    def _assigned(self, consumer: Consumer, given: Sequence[TopicPartition]) -> None:
        self._given, self._closed_until = [Part(tp.topic, tp.partition) for tp in given], 0.0
        consumer.assign([])  # nothing is fetched before the database has said from where

    def _revoked(self, consumer: Consumer, _: Sequence[TopicPartition]) -> None:
        if self._job is not None and self._handed:
            wait([self._job], LEAVE_S)
            if self._job.done() and self._job.exception() is None:
                self._untold |= self._handed
        self._tell(time.monotonic(), now_or_never=True)
        self._lost(consumer, _)

    def _lost(self, consumer: Consumer, _: Sequence[TopicPartition]) -> None:
        self._given = None
        self._close()
        consumer.unassign()
        log.info("unassigned")

    def _close(self) -> None:
        """Forget all that is not stored; the job in hand, if any, comes to nothing or is fenced."""
        if self._job is not None and not self._job.done():
            self._store.interrupt()
            wait([self._job])
        if self._job is not None and (error := self._job.exception()):
            if not isinstance(error, Waiting | Fenced):
                raise error
            if isinstance(error, Fenced):
                log.warning("fenced", parts=str(error))
        self._job, self._open, self._in_hand, self._ready = None, False, None, None
        self._positions, self._handed, self._untold, self._unpackable = {}, {}, {}, {}
        self._pile.begin({})
        self._writer.drop()

    def _pass(self, found: tuple[Part, int, int, str], now: float) -> None:
        """Refuses the batch as one record, and goes on behind it."""
        part, begin, end, why = found
        self._unpackable.pop(part, None)
        if part not in self._positions:
            return  # it is somebody else's by now
        detail = f"its batch of offsets {begin} to {end - 1} is not unpacked: {why}"
        stamp_ms = time.time_ns() // 1_000_000
        self._pile.add(Entry(part, begin, None, None, stamp_ms, Refusal(Rejection.TOO_LARGE, detail)))
        self._pile.reach(part, end)
        self._grew_at = now
        self._consumer.seek(TopicPartition(*part, end))
        if not self._paused:
            self._consumer.resume([TopicPartition(*part)])

    def _tell_over(self, found: list[Alarm], _: float) -> None:
        self._alarms_due = False
        for alarm in found:
            self._teller.tell(alarm)

    def _opened(self, opened: Iterable[tuple[Part, Position, Replay | None]], now: float) -> None:
        for part, position, replay in opened:
            self._positions[part] = position
            if replay is not None:
                measured.REPLAYS.inc()
                log.warning("replay", part=str(part), reason=replay.reason, stood_at=replay.stood_at,
                            moved_to=replay.moved_to, generation=replay.generation)  # fmt: skip
        stands = {part: position.next_offset for part, position in self._positions.items()}
        self._pile.begin(stands)
        self._consumer.assign([TopicPartition(*part, offset) for part, offset in stands.items()])
        self._consumer.resume(self._consumer.assignment())  # a pause outlives the assignment it was made in
        self._open, self._paused, self._alarms_due = True, False, True
        self._untold = stands
        self._tell(now, now_or_never=True)
        log.info("assigned", partitions=len(stands))
        self._on_working()

    def _tell(self, now: float, *, now_or_never: bool = False) -> None:
        """Tells Kafka where we stand, with our mark. The database knows better, so a failure costs nothing."""
        if not self._untold or (now - self._told_at < COMMIT_S and not now_or_never):
            return
        offsets = [
            TopicPartition(*part, offset, metadata=str(Mark(self._positions[part].generation)))
            for part, offset in self._untold.items()
        ]
        self._untold, self._told_at = {}, now
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not now_or_never)
        except KafkaException as error:
            log.info("position_not_told", detail=str(error))

    def _pause(self) -> None:
        if not self._paused and self._open:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def _resume(self) -> None:
        if self._paused and self._open:
            self._consumer.resume(self._consumer.assignment())
        self._paused = False

    def _leave(self) -> None:
        """Stores what is in hand, if the database lets us, and says where we stand."""
        if self._job is not None and self._handed and wait([self._job], ANSWER_S).done and not self._job.exception():
            self._untold |= self._handed
        self._teller.finish(ANSWER_S / 2)  # an alarm that stands is ended by whoever stores next
        self._tell(time.monotonic(), now_or_never=True)

    def _store_the_rest(self) -> None:
        """What has been read before the log turned out to have lost what follows."""
        for _ in range(3):  # the batch in hand, the one that is ready, the pile
            if self._job is not None:
                wait([self._job], LAST_S)
                if not self._job.done():
                    return
                job, self._job = self._job, None
                self._conclude(job, time.monotonic())
            if self._outage is not None or not self._open or not (len(self._pile) or self._ready):
                return
            self._hand_over()
        if self._job is not None:
            wait([self._job], LAST_S)

    def _raise_lost(self, lost: LogLost) -> None:
        position = self._positions.get(lost.part)
        generation = position.generation if position is not None else 0
        alarm = alarms.log_lost(lost.part, generation=generation, now=datetime.now(UTC), detail=lost.detail)
        with suppress(Unavailable):
            if self._stands(alarm.alarm_id):  # a sink before us has told it, and somebody may have acted on it
                return
        self._teller.tell(alarm)
        self._teller.finish(LAST_S)

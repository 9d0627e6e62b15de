"""The Faust application: which topics, who owns what, and how the process ends.

Faust consumes and shares out partitions; `Partition` does the rest. Its tables, its commits and its web server are
not used. One worker owns the same partition number of every source topic: Faust's own assignor keeps topics of one
partition count together, and it is used only while standby replicas are not 0 (aiokafka's round robin would part them).
"""

import asyncio
import ctypes
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faust
import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP
from faust.worker import Worker

from infra import log_lines
from infra.client import access, connection
from infra.cycles import look_for_cycles_seldom
from infra.offsets import ends
from infra.readiness import announce
from infra.security import keys
from infra.security.keys import Keyring
from infra.telemetry.health import Check, Health, age_check, lag_check
from infra.telemetry.tracing import Tracing
from schemas.codec import Codec
from schemas.errors import Refused, Unavailable
from schemas.topics import READINGS_RAW, STREAMS_GROUP, STREAMS_STATE
from streams.agents import measured
from streams.agents.credentials import credentials
from streams.agents.delivered import SOURCES
from streams.agents.devices import DeviceTable
from streams.agents.driver import PollTransport
from streams.agents.ownership import Ownership
from streams.agents.partition import Partition
from streams.agents.same_log import shrunk
from streams.agents.told import Told
from streams.settings import StreamsSettings, Unsigned

log = structlog.get_logger()


def end_process(error: BaseException) -> None:
    """Nothing more is acknowledged; the supervisor starts a new worker, which goes on from what was committed."""
    if isinstance(error, Refused | Unavailable):  # for a person, as every command says it
        log_lines.last_words(str(error))
        code = error.exit_code
    else:
        log.error("worker.ends", error=repr(error))
        code = 1
    sys.stdout.flush()
    os._exit(code)


def count_partitions(admin: AdminClient, kafka: str) -> int:
    """The one partition count of the topics keyed by device. Raises `Unavailable`, `Refused`."""
    try:
        topics = admin.list_topics(timeout=10).topics
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    counts = {name: len(topics[name].partitions) if name in topics else 0 for name in (*SOURCES, STREAMS_STATE)}
    if 0 in counts.values():
        missing = ", ".join(name for name, count in counts.items() if not count)
        raise Refused(f"kafka at {kafka} lacks the topics {missing}; make them with: telltale topics provision")
    if len(set(counts.values())) > 1:
        raise Refused(f"topics keyed by device must have one partition count, got {counts}")
    return counts[READINGS_RAW]


ENDS_S = 5.0
"""What the question for the ends of the sources may take: it is asked again at each look."""

TURN_S = 0.0002
"""How long a thread may keep Python to itself while another waits for it. numpy lets go of it in each larger call and
has to wait for it again: beside the thread that unpacks what was fetched, which never lets go by itself, Python's own
5 ms made the work of a pile six times as long. Shorter turns bring nothing more."""


def _keep_memory() -> None:
    """Let glibc keep the memory of a pile's arrays for the next pile's: giving it back and faulting it in again costs
    a fifth of the time. Elsewhere than on glibc nothing happens."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, number in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 256 << 20), (_M_ARENA_MAX, 2)):
        mallopt(option, number)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


class Assignor(PartitionAssignor):  # type: ignore[misc]  # Faust has no types
    """Faust's, which leaves out topics that the broker does not tell of. A broker that has just started tells of none
    for a moment: all workers would be given nothing, for good."""

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        missing = [topic for topic in SOURCES if not cluster.partitions_for_topic(topic)]
        if missing:
            end_process(Unavailable(f"kafka does not tell of {', '.join(missing)} (yet); a new worker shares them out"))
        return super().assign(cluster, member_metadata)


class Application(faust.App):  # type: ignore[misc]  # Faust has no types
    """Faust without the folders that its tables would need."""

    def _create_directories(self) -> None:
        pass


STOP_S_MAX = 15.0
"""Of stopping. Below, a transaction at work could not end; above, the supervisor would kill the process (20 s)."""


class Process(Worker):  # type: ignore[misc]  # Faust has no types
    """Faust's, but that it ends when it is asked to: without a broker Faust's consumer asks for one for ever."""

    def _schedule_shutdown(self, signal: Any) -> None:
        last = threading.Timer(STOP_S_MAX, self._leave)
        last.daemon = True
        last.start()
        super()._schedule_shutdown(signal)

    def _leave(self) -> None:
        """Nothing is lost: what is not committed is read again."""
        log.warning("worker.left", detail=f"Kafka was not told within {STOP_S_MAX:g} s that this worker ends")
        sys.stdout.flush()
        os._exit(0)


class Stage:
    """One worker's partitions."""

    def __init__(
        self, kafka: str, settings: StreamsSettings, *, health: Health, tracing: Tracing | None = None
    ) -> None:
        self._kafka = kafka
        self._health = health
        self._tracing = tracing
        self._lag: dict[str, int] | None = None  # records by topic; None: not known yet
        self._oldest_s = 0.0
        health.check("assigned", self._is_assigned)
        health.check("caught_up", self._caught_up)
        health.check("last_commit", lambda: age_check("commit", measured.COMMITTED.age_s))
        self._settings = settings
        self._admin = AdminClient(connection(kafka))
        self._count = count_partitions(self._admin, kafka)
        self._codec = Codec()
        self._devices = DeviceTable(kafka, self._admin, self._codec, failed=end_process)
        self._told = Told(kafka, failed=end_process)
        self._keyring = Keyring(keys.folder(), all_must_sign=settings.unsigned is Unsigned.REFUSE)
        self._keyring.refresh()
        # Each partition blocks at most one thread; two more for the questions about offsets.
        self._executor = ThreadPoolExecutor(self._count + 2, thread_name_prefix="partition")
        self._owned: dict[int, Partition] = {}
        self._has_share = False  # what is this worker's has been said; it may be nothing
        self._turn = threading.Lock()
        self.app = self._make_app()

    def run(self) -> None:
        """Work until SIGTERM or Ctrl-C."""
        _keep_memory()
        sys.setswitchinterval(TURN_S)
        look_for_cycles_seldom()
        worker = Process(self.app, loglevel="warning", redirect_stdouts=False, quiet=True, override_logging=False)
        worker.spinner = None  # it writes control characters into the log
        worker.execute_from_commandline()

    def _make_app(self) -> Application:
        settings = self._settings
        app = Application(
            STREAMS_GROUP,
            broker=f"kafka://{self._kafka}",
            broker_credentials=credentials(access(self._kafka)),
            store="memory://",
            topic_partitions=self._count,
            topic_allow_declare=False,
            topic_disable_leader=True,
            key_serializer="raw",
            value_serializer="raw",
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 << 20,
            stream_wait_empty=False,
            stream_publish_on_commit=False,
            table_standby_replicas=1,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.heartbeat_s,
            broker_request_timeout=max(30.0, settings.session_timeout_s),
            broker_max_poll_records=5000,
            web_enabled=False,
            PartitionAssignor=Assignor,
        )
        app.transport = PollTransport(app.conf.broker_consumer, app)
        app.agent(app.topic(*SOURCES, key_type=bytes, value_type=bytes), name="sources")(self._consume)
        app.on_partitions_assigned.connect(self._assigned)
        app.on_partitions_revoked.connect(self._revoked)
        app.task(self._watch)
        return app

    async def _consume(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            partition = self._owned.get(message.partition)
            stale = message.generation_id != self.app.consumer_generation_id
            if partition is not None and not stale:
                await partition.put(message.records)

    async def _assigned(self, _app: Any, assigned: set[TP], **_: Any) -> None:
        for tp in sorted(assigned):
            if tp.topic == READINGS_RAW and tp.partition not in self._owned:
                ownership = Ownership(
                    tp.partition,
                    self._count,
                    kafka=self._kafka,
                    codec=self._codec,
                    devices=self._devices,
                    told=self._told,
                    tracing=self._tracing,
                    keyring=self._keyring,
                )
                self._owned[tp.partition] = Partition(
                    ownership, self._settings, self._executor, turn=self._turn, failed=end_process
                )
        self._has_share = True
        log.info("worker.assigned", partitions=sorted(self._owned))

    async def _revoked(self, _app: Any, revoked: set[TP], **_: Any) -> None:
        owned, self._owned, self._has_share = self._owned, {}, False
        await asyncio.gather(*(partition.close() for partition in owned.values()))
        if owned:
            log.info("worker.revoked", partitions=sorted(owned))

    async def _watch(self) -> None:
        """Announce readiness once, then ask for the ends of the sources and let silence be judged."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._start_devices)
        announced = False
        while not self.app.should_stop:
            self._health.beat()
            owned = dict(self._owned)
            measured.PARTITIONS.set(sum(partition.opened.is_set() for partition in owned.values()))
            if self._has_share and all(partition.opened.is_set() for partition in owned.values()):
                if not announced:
                    announce()
                    announced = True
                if owned:
                    await loop.run_in_executor(self._executor, self._ask_ends, owned)
                else:  # there are more workers than can be given a partition: this one stands by
                    self._lag, self._oldest_s = {}, 0.0
            await asyncio.sleep(self._settings.silence_check_s if announced else 0.05)

    def _start_devices(self) -> None:
        try:
            self._devices.start()
            self._told.start()
        except BaseException as error:  # noqa: BLE001 - without configuration there is no judging
            end_process(error)

    def _ask_ends(self, owned: dict[int, Partition]) -> None:
        wanted = [TopicPartition(topic, number) for topic in SOURCES for number in owned]
        now_us = time.time_ns() // 1000
        before = {(topic, of): at for of, each in owned.items() for topic, at in each.ownership.next.items()}
        try:
            found = ends(self._admin, wanted, within_s=ENDS_S)
        except Exception as error:  # noqa: BLE001 - the broker is away: silence cannot be judged meanwhile
            log.warning("ends.unknown", error=str(error))
            return
        if made_anew := shrunk(found, before):
            (topic, number), *_ = made_anew
            told = f"{topic}/{number} ends at {found[topic, number]} and was read up to {before[topic, number]}"
            end_process(Unavailable(f"{told}: it was deleted and made again; a new worker reads it from its beginning"))
        lag: Counter[str] = Counter()
        for number, partition in owned.items():
            own = {topic: end for (topic, of), end in found.items() if of == number}
            lag.update(partition.ownership.left(own))
            self.app.loop.call_soon_threadsafe(partition.look_for_silence, own, now_us)
        self._measure(owned.values(), dict(lag), now_us)

    # -- what the worker says of itself --

    def _measure(self, owned: Collection[Partition], lag: dict[str, int], now_us: int) -> None:
        waiting = [partition.waiting() for partition in owned]
        oldest_ms = min((each.oldest_ms for each in waiting if each.oldest_ms is not None), default=None)
        self._oldest_s = 0.0 if oldest_ms is None else max(0.0, now_us / 1e6 - oldest_ms / 1e3)
        self._lag = lag
        for topic, records in lag.items():
            measured.LAG_RECORDS.labels(topic).set(records)
        measured.LAG_SECONDS.set(self._oldest_s)
        measured.WAITING_RECORDS.set(sum(each.records for each in waiting))
        measured.WAITING_BYTES.set(sum(each.bytes for each in waiting))
        measured.DEVICES.set(sum(partition.ownership.devices for partition in owned))

    def _is_assigned(self) -> Check:
        owned, has_share = dict(self._owned), self._has_share
        opened = sum(partition.opened.is_set() for partition in owned.values())
        if has_share and not owned:
            return Check(True, "stands by: the partitions are all with other workers", 0)
        return Check(
            has_share and opened == len(owned), f"{opened} of {len(owned)} assigned partitions are open", opened
        )

    def _caught_up(self) -> Check:
        lag = self._lag
        return lag_check(None if lag is None else sum(lag.values()), self._oldest_s)

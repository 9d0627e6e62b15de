"""`telltale sink`. The composition root: clients are made here and nowhere else."""

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from infra import client, events, readiness, stack
from infra.counted import counted
from infra.database import connected, told_in_one_line
from infra.options import AS_JSON, DATABASE, KAFKA
from schemas.errors import Unavailable
from sinks.timescale.shell import show_table

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from sinks.timescale.batch import Part
    from sinks.timescale.settings import SinkSettings


STUCK_S = 300.0
"""A loop that has not turned for so long hangs. Migrations of a large database come before its first turn."""
SWITCH_S = 0.0005
"""How long the thread that decodes may keep the one that feeds the database waiting. With Python's 5 ms, each of a
COPY's thirty waits for the socket ends in a wait for the interpreter."""


@click.group()
def sink() -> None:
    """The sink from Kafka to the database: each committed record once."""


@sink.command()
@KAFKA
@DATABASE
@click.option("--verbose", is_flag=True, help="One line for each batch.")
def run(kafka: str | None, database: str | None, verbose: bool) -> None:
    """Store what arrives, until SIGTERM or Ctrl-C. Any number of these share the work."""
    import structlog

    from infra import telling, told_alarms
    from infra.cycles import look_for_cycles_seldom
    from infra.security import keys
    from infra.security.keys import Keyring
    from infra.telemetry import probing, tracing
    from infra.telemetry.health import Health
    from infra.telemetry.serving import serving
    from infra.version import our_version
    from schemas.codec import Codec
    from sinks.timescale import schema
    from sinks.timescale.alarms import Waits
    from sinks.timescale.decode import Decoder
    from sinks.timescale.loop import Loop
    from sinks.timescale.rejects import Rejects, producer
    from sinks.timescale.settings import SinkSettings
    from sinks.timescale.store import Store
    from sinks.timescale.upkeep import beside as upkeep_beside
    from sinks.timescale.writer import Writer

    address, dsn = stack.kafka_address(kafka), stack.database_dsn(database)
    settings = SinkSettings()
    events.configure("debug" if verbose else "info", service="sink")
    sys.setswitchinterval(SWITCH_S)
    look_for_cycles_seldom()
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    keyring = Keyring(keys.folder())
    keyring.refresh()
    health = Health("sink", stuck_s=STUCK_S)
    traced = tracing.start("sink", version=our_version(), log=structlog.get_logger())
    probes = {"broker": probing.broker(address), "database": probing.database(dsn)}
    with _neighbours(), serving(health, probes=probes):
        if settings.migrate:
            schema.migrate(dsn)
        admin = _admin(address)
        admin.list_topics(timeout=10)
        owner = f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(3)}"
        codec = Codec()
        store = Store(dsn, owner=owner, copy=settings.copy_rows)
        writer = Writer(store, Rejects(lambda: producer(address), codec=codec))
        loop = Loop(
            _consumer(address, settings, owner=owner),
            admin=admin,
            decoder=Decoder(codec),
            store=store,
            writer=writer,
            settings=settings,
            waits=Waits(owner, settings.alarm_after_s),
            teller=telling.Teller(lambda: telling.producer(address, client_id="telltale-sink-alarms"), speaker="sink"),
            health=health,
            end_of_batch=lambda part, begin: _end_of_batch(address, part, begin),
            stands=lambda alarm_id: told_alarms.stands(address, alarm_id),
            tracing=traced,
            on_working=readiness.announce,
            keyring=keyring,
        )
        with upkeep_beside(dsn, period_s=settings.upkeep_s):
            loop.run(stop)
    if traced is not None:
        traced.end()


@sink.command("status")
@KAFKA
@DATABASE
@AS_JSON
def sink_status(kafka: str | None, database: str | None, as_json: bool) -> None:
    """Each partition: where it stands, how far behind, whose it is."""
    from sinks.timescale.status import positions

    address, dsn = stack.kafka_address(kafka), stack.database_dsn(database)
    with _neighbours(), connected(dsn) as connection:
        admin = _admin(address)
        admin.list_topics(timeout=10)
        found = positions(connection, admin)
    lag = sum(each["lag"] or 0 for each in found)
    if as_json:
        click.echo(json.dumps({"lag": lag, "partitions": found}))
        return
    show_table(found, ("topic", "partition", "next_offset", "end_offset", "lag", "generation", "epoch", "owner"))
    click.echo(f"{counted(len(found), 'partition')}, {counted(lag, 'record')} behind")


def _consumer(address: str, settings: "SinkSettings", *, owner: str) -> Any:
    from confluent_kafka import Consumer

    from schemas.topics import SINK_GROUP
    from sinks.timescale.alarms import CLIENT

    return Consumer(
        {
            **client.connection(address),
            "client.id": CLIENT.format(owner),
            "group.id": SINK_GROUP,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # a position that the log has lost is a person's decision
            "enable.partition.eof": True,  # tells how far markers reach behind the last record
            "partition.assignment.strategy": "range",
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.session_timeout_ms // 4,
            "max.poll.interval.ms": 60_000,  # the loop polls every 0.1 s; more than this is a hang
            "socket.timeout.ms": 10_000,
            "allow.auto.create.topics": False,
            "topic.metadata.refresh.interval.ms": 10_000,  # how late a topic that was made again is noticed
            "fetch.min.bytes": 1,
            # What arrives ends the wait, but only of partitions that are in the request already: the first
            # requests after an assignment name few of them, and the others wait this long.
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 10,  # the default of a second lets a full queue run dry
            "fetch.message.max.bytes": 4 * 2**20,
            "queued.max.messages.kbytes": settings.fetch_kbytes_max,
            "queued.min.messages": 100_000,
            "check.crcs": True,
            "error_cb": _complain,
        }
    )


def _end_of_batch(address: str, part: "Part", begin: int) -> int:
    from confluent_kafka import Consumer

    from infra.unpackable import end_of_batch

    consumer = Consumer(client.reader(address, group="telltale-sink-look"))
    try:
        return end_of_batch(consumer, *part, begin)
    finally:
        consumer.close()


def _admin(address: str) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    return AdminClient({**client.connection(address), "client.id": "telltale-sink", "socket.timeout.ms": 10_000})


def _complain(error: Any) -> None:
    """A broker that is away or refuses us, in our own words; librdkafka goes on trying."""
    import structlog

    structlog.get_logger(__name__).warning("kafka", detail=error.str())


@contextmanager
def _neighbours() -> Iterator[None]:
    """A sick neighbour at the start is told in one line."""
    from confluent_kafka import KafkaException

    try:
        with told_in_one_line():
            yield
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from None

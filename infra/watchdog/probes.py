"""Asks the neighbours. Each probe is bounded in time and answers with findings; trouble in asking is a finding too."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra import provision
from infra.backup.folder import Folder
from infra.backup.settings import BackupSettings
from infra.client import connection
from infra.counted import counted
from infra.database import first_line
from infra.kafka.cluster import NUMBERS, names
from infra.parts import POSTGRES
from infra.security.strangers import Strangers, Try
from infra.settle import STAGES, behind
from infra.stack import WORKING, Stack
from infra.watchdog import measured
from infra.watchdog.findings import (
    NO_ANSWER,
    Filling,
    Finding,
    Progress,
    Restarts,
    Rule,
    Work,
    of_copies,
    of_disk,
    of_expiry,
    of_group,
    of_service,
)
from infra.watchdog.settings import WatchdogSettings
from schemas.errors import Refused, Unavailable
from schemas.topics import TOPICS

ANSWER_S = 5.0
HEALTH_S = 2.0
CLOCK = "SELECT clock_timestamp()"
TOKENS = """
SELECT prefix, name, expires FROM tokens
WHERE revoked IS NULL AND expires < now() + make_interval(secs => %s) AND expires > now() - interval '1 day'"""
NO_TABLE = ("42P01", "3F000")


def broker(address: str) -> Finding:
    """Whether the broker answers."""
    try:
        AdminClient(connection(address)).list_topics(timeout=ANSWER_S)
        measured.BROKER_UP.set(1)
    except KafkaException as error:
        measured.BROKER_UP.set(0)
        measured.forget_groups()
        said = f"Kafka at {address} does not answer ({error.args[0].str()}). Edges keep their readings meanwhile."
        return Finding(Rule.BROKER, "kafka", bad=True, said=said, reason=NO_ANSWER)
    return Finding(Rule.BROKER, "kafka", bad=False, said=f"Kafka at {address} answers", reason=NO_ANSWER)


def groups(address: str, progress: Progress, settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    """Every consumer group of the pipeline. Raises `Unavailable`."""
    for group, topics in STAGES.items():
        waits = behind(address, group, topics)
        left = [
            Work(
                group,
                each.topic,
                each.partition,
                each.position,
                0.0 if each.waits_since is None else max(0.0, (now - each.waits_since).total_seconds()),
                _retention_s(each.topic),
            )
            for each in waits
        ]
        still = [progress.still_s(work, now) for work in left]
        measured.GROUP_LAG_RECORDS.labels(group).set(sum(each.end - each.position for each in waits))
        measured.GROUP_LAG_SECONDS.labels(group).set(max((work.waited_s for work in left), default=0.0))
        measured.GROUP_STILL_SECONDS.labels(group).set(max(still, default=0.0))
        yield from of_group(
            group,
            left,
            still,
            still_limit_s=settings.still_s,
            lag_limit_s=settings.lag_s,
            retention_share=settings.retention_share,
        )


def _retention_s(topic: str) -> float | None:
    """Of the catalogue; a compacted topic keeps the last of each key."""
    known = TOPICS[topic]
    return None if known.compact or known.retention_days is None else known.retention_days * 86_400.0


def copies(address: str) -> Finding:
    """Whether every partition has all of its copies. Raises `Unavailable`."""
    try:
        known = AdminClient(connection(address)).list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise Unavailable(error.args[0].str()) from None
    found = [(one.replicas, one.isrs) for topic in known.topics.values() for one in topic.partitions.values()]
    return of_copies(found, known.brokers)


def topics(address: str) -> Finding:
    """Whether topics are as the catalogue has them. Raises `Unavailable`."""
    differences = provision.check(address)
    said = "; ".join(map(str, differences[:5])) + (f" and {len(differences) - 5} more" if len(differences) > 5 else "")
    return Finding(
        Rule.TOPICS,
        "topics",
        bool(differences),
        f"{said}. See: telltale topics check" if differences else "topics are as the catalogue has them",
        "not_as_catalogued",
        float(len(differences)),
        0.0,
    )


def database(dsn: str, settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    """Whether the database answers, its clock, and tokens that end soon."""
    try:
        with psycopg.connect(dsn, connect_timeout=int(ANSWER_S), autocommit=True) as one:
            one.execute(f"SET statement_timeout = {int(ANSWER_S * 1000)}")
            asked = datetime.now(UTC)
            row = one.execute(CLOCK).fetchone()
            spent = datetime.now(UTC) - asked
            measured.DATABASE_UP.set(1)
            yield Finding(Rule.DATABASE, "database", bad=False, said="the database answers", reason=NO_ANSWER)
            if row is not None:
                yield _clock((row[0] - asked - spent / 2).total_seconds(), settings.clock_s)
            yield from _tokens(one, settings, now)
    except psycopg.Error as error:
        measured.DATABASE_UP.set(0)
        advice = "Nothing is stored meanwhile; readings wait in Kafka, and nothing is lost."
        said = f"The database: {first_line(error)}. {advice}"
        yield Finding(Rule.DATABASE, "database", bad=True, said=said, reason=NO_ANSWER)


def _clock(off_s: float, limit_s: float) -> Finding:
    bad = abs(off_s) > limit_s
    measured.CLOCK.set(off_s)
    said = f"the database's clock is {off_s:+.1f} s from this machine's"
    return Finding(
        Rule.CLOCK,
        "host/database",
        bad,
        f"T{said[1:]}. Set both by NTP: silence and lag are told by clocks." if bad else said,
        "clocks_differ",
        round(off_s, 3),
        limit_s,
        "s",
    )


def _tokens(one: psycopg.Connection, settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    try:
        rows = one.execute(TOKENS, (settings.expiry_days * 86400,)).fetchall()
    except psycopg.Error as error:
        if error.sqlstate not in NO_TABLE:
            raise
        return
    for prefix, name, ends in rows:
        yield of_expiry(
            Rule.TOKEN, f"token/{prefix}", f'Token "{name}" ({prefix}...)', ends=ends, now=now,
            days=settings.expiry_days, advice="Make a new one for whoever uses it: telltale token create",
        )  # fmt: skip


def disks(places: list[Path], filling: Filling, settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    """The disks on which the folders lie."""
    for place in places:
        try:
            usage = psutil.disk_usage(str(place))
        except OSError as error:
            yield Finding(Rule.DISK, f"disk{place}", bad=True, said=f"{place}: {error.strerror}", reason="not_there")
            continue
        measured.DISK_FREE.labels(str(place)).set(usage.free)
        measured.DISK_SIZE.labels(str(place)).set(usage.total)
        yield of_disk(
            str(place),
            free_bytes=usage.free,
            total_bytes=usage.total,
            full_in_s=filling.full_in_s(str(place), usage.free, now),
            share_min=settings.disk_share_min,
            hours_min=settings.disk_hours_min,
        )


def certificates(settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    """Files of certificates that end soon."""
    from cryptography import x509  # noqa: PLC0415 - half a second, and only where there are certificates

    for path in settings.certificates:
        source = f"certificate/{path.name}"
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            yield Finding(
                Rule.CERTIFICATE, source, bad=True, said=f"{path} cannot be read: {error}", reason="unreadable"
            )
            continue
        yield of_expiry(
            Rule.CERTIFICATE, source, f"Certificate {path}", ends=min(each.not_valid_after_utc for each in found),
            now=now, days=settings.expiry_days, advice="Renew it: telltale tls init, or by your own authority.",
        )  # fmt: skip


def backups(database_name: str, settings: WatchdogSettings, now: datetime) -> Iterator[Finding]:
    """Whether there is a recent backup, whoever should have made it."""
    own = BackupSettings()
    hours = settings.backup_hours or (None if own.every is None else 3 * own.every / 3600)
    if hours is None:  # none is wanted
        return
    try:
        found = Folder(own.place(None)).backups(database_name)
    except (Refused, Unavailable) as error:
        yield Finding(
            Rule.BACKUP, "backups", bad=True, said=f"Backups cannot be looked at: {error}", reason="unreadable"
        )
        return
    newest = max((each.manifest.taken for each in found if each.manifest.taken <= now), default=None)
    measured.BACKUP.set(0 if newest is None else newest.timestamp())
    age = None if newest is None else (now - newest).total_seconds() / 3600
    bad = age is None or age > hours
    said = "There is no backup" if age is None else f"The newest backup is {age:.1f} h old"
    yield Finding(
        Rule.BACKUP,
        "backups",
        bad,
        f"{said}, wanted is one every {hours:.1f} h: see `telltale backup run` and its log" if bad else said,
        "too_old",
        None if age is None else round(age, 2),
        hours,
        "h",
    )


def services(seen: Stack | None, restarts: Restarts, now: datetime) -> Iterator[Finding]:
    """The parts of the stack in whose folder the watchdog works, if there is one. Broker and database have rules of
    their own, and who asks lives."""
    if seen is None or all(each.state == "stopped" for each in seen.services):
        return
    yield Finding(
        Rule.SERVICE,
        "service/supervisor",
        not seen.is_supervised,
        "the supervisor lives"
        if seen.is_supervised
        else "The supervisor (`telltale up`) has ended: a part that ends is not started again. Start it: telltale up",
        "gone",
    )
    own = {POSTGRES, "watchdog", *(name for number in NUMBERS for name in names(number))}
    for each in (service.now() for service in seen.services if service.name not in own):
        works = each.state in WORKING
        hangs = _hangs(each.metrics) if each.state == "running" and each.metrics else None
        lately = restarts.lately(each.name, each.restarts, now)
        yield of_service(each.name, state=each.state, works=works, restarts=lately, hangs=hangs)


def _hangs(metrics: str) -> str | None:
    """What /healthz beside /metrics says, if it is that the process hangs."""
    try:
        answer = httpx.get(metrics.removesuffix("/metrics") + "/healthz", timeout=HEALTH_S)
    except httpx.TimeoutException:
        return f"it has not answered for {HEALTH_S:g} s"
    except httpx.HTTPError as error:
        return f"it does not answer ({error})"
    if answer.status_code < 500:
        return None
    try:
        return str(answer.json()["said"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status_code}"


ADVICE = {
    Rule.STRANGER: "If the device is yours: telltale device add or rotate",
    Rule.UNUSABLE: "It is kept: `telltale rejected list` has it and says why, `telltale rejected retry` sends it again",
}


def strangers(
    found: Iterable[Try], known: Strangers, now: datetime, *, rule: Rule = Rule.STRANGER
) -> Iterator[Finding]:
    """Who was refused at the broker's door, by its own log, or whose records were rejected."""
    known.note(found, now)
    for source, seen, recent in known.standing(now):
        said = f"{seen.said} ({counted(seen.count, 'time')} of late). {ADVICE[rule]}"
        yield Finding(rule, source, recent, said if recent else "none for a while", seen.reason, float(seen.count))


def machine_folders(settings: WatchdogSettings, stack_folder: Path) -> list[Path]:
    """Whose disks are looked at."""
    return settings.disks or [stack_folder if stack_folder.exists() else Path.cwd()]

"""What a look has found, and when that is an alarm. Pure: figures and the time in, findings and decisions out."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from infra.counted import counted
from schemas.alarms import Severity

HISTORY = timedelta(hours=6)
"""Over which a disk's filling is judged: longer than a compaction or a backup takes, shorter than a change of load."""
PACE_KNOWN_AFTER_S = 600
"""A shorter look shows a start, a download or an import, and no pace: it would call a disk full within hours."""


NO_ANSWER = "no_answer"


class Rule(StrEnum):
    """What may be wrong."""

    BROKER = "broker_unreachable"
    COPIES = "under_replicated"
    DATABASE = "database_unreachable"
    NO_PROGRESS = "no_progress"
    LAG = "lag"
    RETENTION = "retention_near"
    DISK = "disk_filling"
    CERTIFICATE = "certificate_expiring"
    TOKEN = "token_expiring"  # noqa: S105 - a rule's name
    CLOCK = "host_clock_skew"
    BACKUP = "backup_missing"
    TOPICS = "topics_differ"
    STRANGER = "unauthorised_device"
    UNUSABLE = "records_rejected"
    SERVICE = "service_down"


SEVERITY = {
    Rule.BROKER: Severity.CRITICAL,
    Rule.COPIES: Severity.MAJOR,
    Rule.DATABASE: Severity.CRITICAL,
    Rule.NO_PROGRESS: Severity.CRITICAL,
    Rule.LAG: Severity.MAJOR,
    Rule.RETENTION: Severity.CRITICAL,
    Rule.DISK: Severity.CRITICAL,
    Rule.CERTIFICATE: Severity.MAJOR,
    Rule.TOKEN: Severity.WARNING,
    Rule.CLOCK: Severity.MAJOR,
    Rule.BACKUP: Severity.MAJOR,
    Rule.TOPICS: Severity.MAJOR,
    Rule.STRANGER: Severity.MAJOR,
    Rule.UNUSABLE: Severity.MAJOR,
    Rule.SERVICE: Severity.MAJOR,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    rule: Rule
    source: str
    bad: bool
    said: str  # for people: what is, and what to do about it if it is bad
    reason: str
    value: float | None = None
    limit: float | None = None
    unit: str | None = None


@dataclass(slots=True)
class Patience:
    """How long each thing has been bad. Trouble counts once it has lasted `for_s` of its rule."""

    for_s: dict[Rule, float]
    _since: dict[tuple[Rule, str], datetime] = field(default_factory=dict)

    def lasting(self, finding: Finding, now: datetime) -> bool | None:
        """True: long enough to be an alarm; False: well; None: bad, but not for long."""
        key = finding.rule, finding.source
        if not finding.bad:
            self._since.pop(key, None)
            return False
        since = self._since.setdefault(key, now)
        return True if now - since >= timedelta(seconds=self.for_s.get(finding.rule, 0.0)) else None


@dataclass(frozen=True, slots=True)
class Work:
    """What a consumer group has left on a partition: where it stands, and how long the next record has waited."""

    group: str
    topic: str
    partition: int
    position: int
    waited_s: float
    retention_s: float | None  # of the topic; None: for ever


@dataclass(slots=True)
class Progress:
    """Since when each partition with work left has stood where it stands."""

    _at: dict[tuple[str, str, int], tuple[int, datetime]] = field(default_factory=dict)

    def still_s(self, work: Work, now: datetime) -> float:
        """Seconds without progress; 0 the first time and whenever it has moved."""
        key = work.group, work.topic, work.partition
        position, since = self._at.get(key, (-1, now))
        if position != work.position:
            since = now
        self._at[key] = work.position, since
        return (now - since).total_seconds()

    def keep(self, left: Iterable[Work]) -> None:
        """Forgets partitions on which nothing is left."""
        keys = {(work.group, work.topic, work.partition) for work in left}
        self._at = {key: at for key, at in self._at.items() if key in keys}


def of_group(
    group: str,
    left: Sequence[Work],
    still_s: Sequence[float],
    *,
    still_limit_s: float,
    lag_limit_s: float,
    retention_share: float,
) -> list[Finding]:
    """What stands still, lags, or is about to lose what it has not read, of one consumer group."""
    source = f"group/{group}"
    still = max(still_s, default=0.0)
    lag = max((work.waited_s for work in left), default=0.0)
    worst = max(left, key=lambda work: work.waited_s, default=None)
    where = f"{worst.topic}/{worst.partition}" if worst else ""
    near = [w for w in left if w.retention_s is not None and w.waited_s > retention_share * w.retention_s]
    waited, kept = max(((w.waited_s, w.retention_s or 0.0) for w in near), default=(0.0, 0.0))
    return [
        Finding(
            Rule.NO_PROGRESS,
            source,
            still > still_limit_s,
            f"{group} has work on {counted(len(left), 'partition')} and one has not moved for {still:.0f} s, whether "
            "its process lives or not. See its log; nothing is lost while Kafka keeps the records."
            if still > still_limit_s
            else f"{group} moves on",
            "stands_still",
            round(still, 1),
            still_limit_s,
            "s",
        ),
        Finding(
            Rule.LAG,
            source,
            lag > lag_limit_s,
            f"{group} is {lag:.0f} s behind ({where}). If it moves on, it needs time or another worker."
            if lag > lag_limit_s
            else f"{group} is {lag:.0f} s behind",
            "behind",
            round(lag, 1),
            lag_limit_s,
            "s",
        ),
        Finding(
            Rule.RETENTION,
            source,
            bool(near),
            f"{group} has not read records that Kafka deletes in {max(0.0, kept - waited) / 3600:.1f} h "
            f"({where}): start it, or lengthen the topic's retention.ms, before they are lost."
            if near
            else f"{group} reads well before retention",
            "before_it_was_read",
            round(waited, 1),
            round(retention_share * kept, 1) if near else None,
            "s",
        ),
    ]


RESTARTS = 5
RESTARTS_WITHIN = timedelta(minutes=10)
"""A part that was started again so often within so long works now and then at best. A part that ends at once gets there
in half a minute, with the supervisor's pauses; nobody restarts one by hand so often."""


@dataclass(slots=True)
class Restarts:
    """How often each part was started again, look by look."""

    _seen: dict[str, list[tuple[datetime, int]]] = field(default_factory=dict)

    def lately(self, name: str, restarts: int, now: datetime) -> int:
        """Within the last ten minutes, as far as they were looked at."""
        seen = self._seen.setdefault(name, [])
        if seen and restarts < seen[-1][1]:  # another stack in the same folder
            seen.clear()
        if not seen or restarts != seen[-1][1]:
            seen.append((now, restarts))
        while len(seen) > 1 and now - seen[1][0] > RESTARTS_WITHIN:
            seen.pop(0)
        return restarts - seen[0][1]

    def forget(self) -> None:
        """A neighbour is away: that parts end for it says nothing of them."""
        self._seen.clear()


def of_service(name: str, *, state: str, works: bool, restarts: int, hangs: str | None) -> Finding:
    """A part of the stack. `restarts`: how often it was started again lately; `hangs`: what its process says, or that
    it says nothing."""
    if not works:
        said, reason = f"{name} does not run, it is {state}", state
    elif restarts >= RESTARTS:
        said, reason = (
            f"{name} ends again and again: it was started {counted(restarts, 'time')} in ten minutes",
            "restarts",
        )
    elif hangs is not None:
        said, reason = f"{name} lives and does nothing: {hangs}", "hangs"
    else:
        return Finding(Rule.SERVICE, f"service/{name}", bad=False, said=f"{name} works", reason="works")
    said = f"The part {said}. See `telltale status` and logs/{name}.log in the stack's folder."
    return Finding(Rule.SERVICE, f"service/{name}", bad=True, said=said, reason=reason, value=float(restarts))


def of_copies(copies: Sequence[tuple[Collection[int], Collection[int]]], at_work: Collection[int]) -> Finding:
    """Partitions that have fewer copies in step than they should: (nodes meant to hold it, nodes in step with it) of
    each, and the nodes at work."""
    short = sum(len(in_step) < len(meant) for meant, in_step in copies)
    away = sorted({node for meant, _ in copies for node in meant} - set(at_work))
    if not short:
        return Finding(
            Rule.COPIES, "kafka", bad=False, said=f"all {len(copies)} partitions have all copies", reason="copies"
        )
    who = f"Kafka's node {', '.join(map(str, away))} is away" if away else "All of Kafka's nodes are at work"
    return Finding(
        Rule.COPIES,
        "kafka",
        bad=True,
        said=f"{who}, and {short} of {len(copies)} partitions have fewer copies than they should. Nothing is lost "
        "and all goes on, but one more node lost would stop it"
        + (". See its log, or put its machine right; it copies by itself what it lacks." if away else "."),
        reason="node_away" if away else "behind",
        value=float(short),
        limit=0.0,
    )


@dataclass(slots=True)
class Filling:
    """A disk's free bytes over the last hours."""

    _seen: dict[str, list[tuple[datetime, int]]] = field(default_factory=dict)

    def full_in_s(self, place: str, free_bytes: int, now: datetime) -> float | None:
        """Seconds until it is full if it goes on as over the last hours; None: it does not fill, or it is not known."""
        seen = self._seen.setdefault(place, [])
        seen.append((now, free_bytes))
        while now - seen[0][0] > HISTORY:
            seen.pop(0)
        if len(seen) > 2000:  # looks each few seconds: thin out, the ends decide
            del seen[1:-1:2]
        began, before = seen[0]
        span_s = (now - began).total_seconds()
        if span_s < PACE_KNOWN_AFTER_S or before <= free_bytes:
            return None
        return free_bytes / ((before - free_bytes) / span_s)


def of_disk(
    place: str, *, free_bytes: int, total_bytes: int, full_in_s: float | None, share_min: float, hours_min: float
) -> Finding:
    """A disk that is nearly full, or will be soon."""
    share = free_bytes / max(1, total_bytes)
    soon = full_in_s is not None and full_in_s < hours_min * 3600
    left = "" if full_in_s is None else f", full in {full_in_s / 3600:.1f} h at this pace"
    bad = share < share_min or soon
    said = f"{place} has {free_bytes / 1e9:.1f} GB left ({share:.0%}){left}"
    advice = ". Make room, or shorten retention, before Kafka and the database stop." if bad else ""
    return Finding(
        Rule.DISK,
        f"disk{place}",
        bad,
        said + advice,
        "soon_full" if soon else "little_left",
        round(share, 4),
        share_min,
    )


def of_expiry(
    rule: Rule, source: str, what: str, *, ends: datetime, now: datetime, days: float, advice: str
) -> Finding:
    """A certificate or token that ends within `days`."""
    left = (ends - now).total_seconds() / 86400
    bad = left < days
    word = f"ends in {left:.1f} days" if left >= 0 else f"ended {-left:.1f} days ago"
    said = f"{what} {word} ({ends:%Y-%m-%d %H:%M} UTC)"
    return Finding(
        rule,
        source,
        bad,
        f"{said}. {advice}" if bad else said,
        "expired" if left < 0 else "expires",
        round(left, 2),
        days,
        "d",
    )

"""Alarms about imports: a file refused, a file not imported in time, a device that uploads no more, a disk without
room for files. Pure but for what is kept; clocks are given.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.kept_alarms import KeptAlarms
from infra.stack import folder
from infra.telling import tell_all
from producers.imports.identifying import TAKEN
from schemas.alarms import Severity
from schemas.errors import Refused
from schemas.records import ImportState, ImportStatus

REFUSED, NOT_IMPORTED, NOT_UPLOADED = "import_refused", "not_imported", "not_uploaded"
BLOCKED = "imports_blocked"
STANDING_MAX = 20
"""Alarms of one rule about single files; beyond it one says how many more: a folder of wrong files is one mistake."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ought to stand as an alarm."""

    rule: str
    source: str
    severity: Severity
    reason: str
    message: str
    device_id: str | None = None
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """When an upload is overdue. `by_device` goes before; None: never."""

    hours: float | None
    by_device: Mapping[str, float | None]

    def of(self, device_id: str, *, regular: bool) -> float | None:
        """The hours of a device. Without a word of its own, only who uploads regularly can be late."""
        if device_id in self.by_device:
            return self.by_device[device_id]
        return self.hours if regular else None


def expectation(hours: float | None, words: str) -> Expectation:
    """From `mast-7=48,mast-8=never`. Raises `Refused`."""
    by_device: dict[str, float | None] = {}
    for word in filter(None, (each.strip() for each in words.split(","))):
        device_id, _, said = word.partition("=")
        try:
            by_device[device_id.strip()] = None if said.strip() == "never" else float(said)
        except ValueError:
            raise Refused(f"TELLTALE_IMPORT_EXPECT: {word!r}: expected DEVICE=HOURS or DEVICE=never") from None
    return Expectation(hours, by_device)


def troubles(
    statuses: Iterable[ImportStatus],
    *,
    now: datetime,
    waiting_s: float,
    expected: Expectation,
    devices: Collection[str],
) -> list[Trouble]:
    """All that is wrong now. Of others than `devices`, which are configured, no uploads go without saying."""
    every = list(statuses)
    newest_of_name = _newest_taken(every)
    refused, waiting = [], []
    for each in every:
        better = newest_of_name.get((each.name, each.uploaded_by))
        if better is not None and better > each.time:
            continue  # somebody has brought a better one since
        where = f"imports/{each.sha256[:12]}"
        if each.state == ImportState.REFUSED:
            message = f"{each.name} was refused: {each.reason}. Seen to, it goes with: telltale imports forget"
            refused.append(
                Trouble(REFUSED, where, Severity.MINOR, "refused", f"{message} {each.sha256[:12]}", each.device_id)
            )
        elif each.state == ImportState.SENT and each.found is None:
            continue  # by `edge send`, which says no more: nobody knows where in the log it ends
        elif each.state != ImportState.STORED and (now - (each.found or each.time)).total_seconds() > waiting_s:
            since = (now - (each.found or each.time)).total_seconds()
            message = f"{each.name} is not imported after {since / 3600:.1f} h, it is: {each.state}"
            message += f" ({each.reason})" if each.reason else ""
            waiting.append(
                Trouble(
                    NOT_IMPORTED,
                    where,
                    Severity.MAJOR,
                    str(each.state).replace(" ", "_"),
                    message,
                    each.device_id,
                    round(since, 1),
                    waiting_s,
                )
            )
    return [*_bounded(refused, REFUSED), *_bounded(waiting, NOT_IMPORTED), *_overdue(every, now, expected, devices)]


def _newest_taken(every: Iterable[ImportStatus]) -> dict[tuple[str, str | None], datetime]:
    newest: dict[tuple[str, str | None], datetime] = {}
    for each in every:
        if each.state in TAKEN:
            key = (each.name, each.uploaded_by)
            newest[key] = max(newest.get(key, each.time), each.time)
    return newest


def _bounded(found: list[Trouble], rule: str) -> list[Trouble]:
    if len(found) <= STANDING_MAX:
        return found
    more = len(found) - STANDING_MAX
    message = f"{more:,} more files: telltale imports list"
    return [
        *sorted(found, key=lambda each: each.source)[:STANDING_MAX],
        Trouble(rule, "imports", found[0].severity, found[0].reason, message, None, float(len(found))),
    ]


def _overdue(
    every: Iterable[ImportStatus], now: datetime, expected: Expectation, devices: Collection[str]
) -> list[Trouble]:
    last: dict[str, datetime] = {}
    days: dict[str, set[object]] = {}
    for each in every:
        if each.device_id is None or each.state not in TAKEN:
            continue
        moments = [each.found or each.time, each.stored or each.time]
        last[each.device_id] = max(last.get(each.device_id, moments[0]), *moments)
        days.setdefault(each.device_id, set()).update(time.date() for time in moments)
    for device_id in expected.by_device:
        last.setdefault(device_id, datetime.min.replace(tzinfo=now.tzinfo))
    found = []
    for device_id, at in sorted(last.items()):
        hours = expected.of(device_id, regular=device_id in devices and len(days.get(device_id, ())) > 1)
        if hours is None or now - at <= timedelta(hours=hours):
            continue
        never = at.year == 1
        since = "ever" if never else f"since {at:%Y-%m-%d %H:%M} UTC"
        found.append(
            Trouble(
                NOT_UPLOADED,
                f"device/{device_id}/imports",
                Severity.MAJOR,
                "not_uploaded",
                f"Nothing of device {device_id} was uploaded {since}; expected at least every {hours:g} h. Look after "
                "the logger's call, or say what is expected with TELLTALE_IMPORT_EXPECT",
                device_id,
                None if never else round((now - at).total_seconds() / 3600, 1),
                hours,
            )
        )
    return found


def blocked(why: str, *, source: str) -> Trouble:
    """Files are there, and the disk takes none."""
    message = f"Files wait: {why}. Nothing is lost; with room on the disk they are imported"
    return Trouble(BLOCKED, source, Severity.MAJOR, "disk", message)


def uploads_blocked(why: str) -> Trouble:
    """Whoever uploads is sent away."""
    return Trouble(BLOCKED, "imports/uploads", Severity.MAJOR, "disk", f"Uploads are refused: {why}")


CLEARED = {
    BLOCKED: "There is room for files again.",
    REFUSED: "The file is no longer refused: it was imported, replaced, or forgotten.",
    NOT_IMPORTED: "The file is imported, refused, or forgotten.",
    NOT_UPLOADED: "The device's readings are uploaded again, or nobody expects them any more.",
}


def reconcile(kept: KeptAlarms, found: Iterable[Trouble], *, now: datetime) -> None:
    """Raises what is wrong, clears what is not any more. Of one speaker's alarms: `found` is all that is wrong."""
    wrong = {(each.rule, each.source): each for each in found}
    for rule, source in list(kept.standing):
        if rule in CLEARED and (rule, source) not in wrong:
            kept.cleared(rule, source=source, now=now, message=CLEARED[rule])
    for each in wrong.values():
        raise_trouble(kept, each, now=now)


def raise_trouble(kept: KeptAlarms, trouble: Trouble, *, now: datetime) -> None:
    """Unless it stands already."""
    kept.raised(
        trouble.rule,
        source=trouble.source,
        severity=trouble.severity,
        reason=trouble.reason,
        now=now,
        message=trouble.message,
        value=trouble.value,
        limit=trouble.limit,
        unit=None if trouble.limit is None else ("h" if trouble.rule == NOT_UPLOADED else "s"),
        device_id=trouble.device_id,
    )


def kept_alarms(kafka: str, name: str = "alarms") -> KeptAlarms:
    """Of one process that imports."""
    return KeptAlarms(
        folder() / "imports" / f"{name}.json",
        speaker="imports",
        tell=lambda events: tell_all(kafka, events, client_id="telltale-imports"),
    )

"""Times as people type them: ISO 8601. What a time without a zone means is said here, and nowhere else."""

from datetime import UTC, datetime

from schemas.errors import Refused


def moment(text: str | None, *, option: str) -> datetime | None:
    """In UTC, which is also meant where no zone is given. Raises `Refused`."""
    if text is None:
        return None
    time = _read(text, option)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def zoned_moment(text: str, *, option: str) -> datetime:
    """For what cannot be undone: a time without a zone is refused as well."""
    time = _read(text, option)
    if time.tzinfo is None:
        raise Refused(f'{option}: "{text}" has no zone; add Z for UTC, or an offset such as +01:00')
    return time


def _read(text: str, option: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo:
            time.astimezone(UTC)  # overflows within a day of the years 1 and 9999
    except (ValueError, OverflowError):
        raise Refused(f'{option}: expected a time such as 2016-12-20T10:00Z, got "{text}"') from None
    return time

"""What is let into the spool, and what has to go for it. Knows the ledger and the limits; knows no network."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from producers.spool import queries
from producers.spool.ledger import GROUP_OVERHEAD_BYTES, Ledger
from producers.spool.policy import FileMark, Limits, SpoolFull, WhenFull
from producers.spool.rows import Rows


@dataclass(slots=True)
class Ticket:
    """One caller's rows on the way to disk."""

    rows: Sequence[Rows]
    mark: FileMark | None = None
    place: tuple[str, str] | None = None  # a source and how far it has come
    waits: bool = False  # the caller will try again, so a refusal is no loss; its order matters
    done: bool = False
    failure: Exception | None = None


def take(ledger: Ledger, ticket: Ticket, *, limits: Limits, now_us: int) -> None:
    """A ticket's rows as groups, in a transaction of the caller's. Raises `SpoolFull`, having counted it."""
    pieces = [piece for rows in ticket.rows for piece in rows.pieces()]
    wanted = sum(len(p.times) * p.row_bytes + GROUP_OVERHEAD_BYTES for p in pieces)
    if wanted:
        _make_room(ledger, ticket, wanted, limits, now_us)
    file = None if ticket.mark is None else _save_mark(ledger, ticket.mark)
    if ticket.place is not None:
        ledger.db.execute(queries.SAVE_PLACE, ticket.place)
    known = ledger.known
    for piece in pieces:
        device, stream = ledger.stream(piece.device_id, piece.channels)
        body, crc32 = piece.packed()
        about = (len(piece.times), piece.readings, piece.status is not None, file, ticket.waits)
        values = (stream, now_us, *about, crc32, body)
        ledger.db.execute(queries.INSERT_GROUP, (known.next_group, *values))
        known.next_group += 1
        known.unframed += 1
        size = len(body) + GROUP_OVERHEAD_BYTES
        known.unframed_bytes += size
        known.bytes += size
        counts = known.counts[device]
        ledger.set(
            device,
            accepted=counts.accepted + piece.readings,
            groups=counts.groups + 1,
            bytes=counts.bytes + size,
            oldest_us=now_us if counts.oldest_us is None else counts.oldest_us,
        )


def count_refused(ledger: Ledger, ticket: Ticket) -> None:
    """Its readings are lost to the caller, if it does not try again."""
    if not ticket.waits:
        for rows in ticket.rows:
            ledger.refused[rows.device_id] += rows.readings


def _make_room(ledger: Ledger, ticket: Ticket, wanted: int, limits: Limits, now_us: int) -> None:
    """Raises `SpoolFull` where the policy or the frames on their way leave no room."""
    known = ledger.known
    oldest = min((c.oldest_us for c in known.counts.values() if c.oldest_us is not None), default=now_us)
    too_old = limits.age_s_max is not None and now_us - oldest > limits.age_s_max * 1e6
    fits = known.bytes + wanted <= limits.bytes_max
    if fits and not too_old:
        return
    drops = limits.when_full is WhenFull.DROP_OLDEST and (fits or not ticket.waits)  # a file stays where it is
    if drops and known.bytes - known.unframed_bytes + wanted <= limits.bytes_max:
        age = None if limits.age_s_max is None else now_us - int(limits.age_s_max * 1e6)
        _drop_oldest(ledger, known.bytes + wanted - limits.bytes_max, age)
        return
    count_refused(ledger, ticket)
    what = f"{known.bytes} of {limits.bytes_max} bytes are in use"
    if too_old and fits:
        what = f"its oldest reading has waited for {(now_us - oldest) / 1e6:.0f} s, limit {limits.age_s_max:.0f} s"
    raise SpoolFull(f"spool {ledger.folder} is full: {what}; readings wait for the broker and new ones are refused")


def _drop_oldest(ledger: Ledger, bytes_over: int, accepted_before_us: int | None) -> None:
    """Frames on their way are not dropped: the broker may have them already."""
    known = ledger.known
    rows = ledger.db.execute(queries.UNFRAMED, (0, -1))
    gone: list[tuple[int]] = []
    freed: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])  # groups, readings, bytes
    for group, stream, _, readings, body, accepted_us in rows:
        if bytes_over <= 0 and (accepted_before_us is None or accepted_us >= accepted_before_us):
            break
        size = body + GROUP_OVERHEAD_BYTES
        bytes_over -= size
        known.unframed_bytes -= size
        gone.append((group,))
        tally = freed[known.channels[stream][0]]
        tally[0] += 1
        tally[1] += readings
        tally[2] += size
    rows.close()
    ledger.db.executemany(queries.DELETE_GROUP, gone)
    known.unframed -= len(gone)
    for device, (groups, readings, size) in freed.items():
        ledger.release(device, groups=groups, size=size, dropped=readings)


def _save_mark(ledger: Ledger, mark: FileMark) -> int:
    device = ledger.device(mark.device_id)
    values = (mark.sha256, device, mark.name, mark.format, mark.options, mark.rows_accepted)
    rest = (mark.readings_accepted, mark.complete)
    return int(ledger.db.execute(queries.SAVE_MARK, values + rest).fetchone()[0])

"""What was done at the shell: lines in a file of the stack's folder, brought to the database's `audit_log` once each.

The file is written before a command says that it is done, whether the database is there or not; whoever comes by next
with a database (a command, the watchdog) brings what is left. A line that is brought twice is stored once.
"""

import errno
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

JOURNAL, BROUGHT = "journal.jsonl", "brought"
CONNECT_S = 2
"""A person waits for it; what is not brought now is brought later."""
LINES_AT_ONCE = 5_000

STORE = """
INSERT INTO audit_log (entry, time, who, way, what, subject, outcome, detail, address)
VALUES (%(entry)s, %(time)s, %(who)s, 'shell', %(what)s, %(subject)s, %(outcome)s, %(detail)s, %(address)s)
ON CONFLICT (entry) DO NOTHING"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that somebody did, or tried to."""

    time: datetime
    who: str
    what: str
    subject: str = ""
    outcome: str = "done"
    """done, refused or failed."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    entry: str = field(default_factory=lambda: str(uuid.uuid4()))

    def line(self) -> bytes:
        facts = {
            "entry": self.entry, "time": self.time.isoformat(), "who": self.who, "what": self.what,
            "subject": self.subject, "outcome": self.outcome, "detail": dict(self.detail), "address": self.address,
        }  # fmt: skip
        # Arguments may be of any bytes, such as a file's name in Latin-1; the database takes characters.
        return json.dumps(facts, default=str, ensure_ascii=False).encode(errors="replace") + b"\n"


def place(folder: Path) -> Path:
    """Of a stack's journal."""
    return folder / "audit"


def write(where: Path, entry: Entry) -> None:
    """On disk when this returns. Raises `OSError`."""
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    journal = os.open(where / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        line, size = entry.line(), os.fstat(journal).st_size
        if size and os.pread(journal, 1, size - 1) != b"\n":  # a torn line, of a full disk, is not to spoil this one
            line = b"\n" + line
        if os.write(journal, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(journal)
    finally:
        os.close(journal)


def left(where: Path) -> list[dict[str, Any]]:
    """What is not in the database yet."""
    return [facts for facts, _ in _after(where, _brought(where))]


def bring(where: Path, dsn: str) -> int:
    """Brings what is left to the database; how much that was. What cannot be brought now stays, and is no trouble."""
    if not (where / JOURNAL).exists():
        return 0
    import psycopg  # noqa: PLC0415 - where there is no database, there is none to bring it to

    try:
        with _held(where) as mine:
            lines = list(_after(where, _brought(where))) if mine else []
            if not lines:
                return 0
            with psycopg.connect(dsn, connect_timeout=CONNECT_S) as connection:
                for facts, _ in lines:
                    connection.execute(STORE, {**facts, "detail": json.dumps(facts["detail"])})
            _note(where, lines[-1][1])
            return len(lines)
    except (psycopg.Error, OSError):  # nothing to say of: it stands in the journal, and the next one brings it
        return 0


def bring_all_again(where: Path) -> None:
    """The database is not the one that had what was brought: it was restored from before."""
    (where / BROUGHT).unlink(missing_ok=True)


def _after(where: Path, begin: int) -> Iterator[tuple[dict[str, Any], int]]:
    """(what a line says, where the next one begins). A torn line, of a full disk, is passed over."""
    try:
        journal = (where / JOURNAL).open("rb")
    except OSError:
        return
    with journal:
        journal.seek(begin)
        at = begin
        for number, line in enumerate(journal):
            if number >= LINES_AT_ONCE or not line.endswith(b"\n"):
                return
            at += len(line)
            try:
                facts = json.loads(line)
                facts["entry"], facts["detail"], facts["outcome"]
            except (ValueError, KeyError, TypeError):
                continue
            yield facts, at


def _brought(where: Path) -> int:
    try:
        return int((where / BROUGHT).read_text())
    except (OSError, ValueError):
        return 0


def _note(where: Path, at: int) -> None:
    coming = where / f".{BROUGHT}.coming"
    coming.write_text(str(at))
    coming.replace(where / BROUGHT)


@contextmanager
def _held(where: Path) -> Iterator[bool]:
    """One bringer at a time; False: another one is at it."""
    lock = os.open(where / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)

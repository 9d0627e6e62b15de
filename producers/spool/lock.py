"""One writer for one folder. Knows files; knows nothing of readings.

The lock is an open exclusive transaction on a SQLite file of its own: the operating system frees it whatever ends
the process, kill -9 included, and it works wherever SQLite works. The spool's database stays readable meanwhile.
"""

import sqlite3
from pathlib import Path

from schemas.errors import Refused, Unavailable


class WriterLock:
    """Held from construction to `release`. Raises `Refused` when another process (or object) holds it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "writer.lock"
        try:
            self._held = _hold(path)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise Refused(f"spool {folder} is in use by another process; one spool has one writer") from None
            raise Unavailable(f"spool {folder}: cannot make {path.name}: {error}") from None
        except sqlite3.DatabaseError:  # a power cut may leave rubbish in it; it holds nothing worth keeping
            path.unlink(missing_ok=True)
            self._held = _hold(path)

    def release(self) -> None:
        self._held.close()


def _hold(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        connection.execute("begin exclusive")
    except sqlite3.Error:
        connection.close()
        raise
    return connection

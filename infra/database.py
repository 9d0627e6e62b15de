"""How commands meet the database: a session for one call, and what is wrong with it, in one line.

psycopg is imported when it is needed: commands that only show their help do without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 10


def first_line(error: BaseException) -> str:
    """What a server or driver says, without its context and hints; the error's kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def holding(words: str) -> str:
    """The pattern of ILIKE for texts that hold these words as they stand: their `_` and `%` are no wildcards."""
    return "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """A database that is away is `Unavailable`, an address that cannot be read and a value that it cannot hold are
    `Refused`; other errors stay."""
    import psycopg  # noqa: PLC0415 - slow to import

    try:
        yield
    except psycopg.OperationalError as error:
        raise Unavailable(f"database: {first_line(error)}") from None
    except psycopg.DataError as error:  # such as a number or time that its type does not hold
        raise Refused(f"database: {first_line(error)}") from None
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:  # not the server's word: the address cannot be read
            raise Refused(f"database: {str(error).strip()}") from None
        raise


@contextmanager
def connected(dsn: str) -> "Iterator[psycopg.Connection[Any]]":
    """A session in which each statement counts at once. Raises `Unavailable`, `Refused`."""
    import psycopg  # noqa: PLC0415 - slow to import

    with (
        told_in_one_line(),
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_S) as connection,
    ):
        yield connection

"""What an error of the database means for the batch. Pure: SQLSTATE in, decision out.

An outage must never send anything to the rejected topic, and bad data must never stop the rest.
"""

from enum import StrEnum

import psycopg


class Trouble(StrEnum):
    """What to do about it. The word is log field and metric label."""

    AWAY = "database_away"  # not there, or not able to write: connect anew, wait, the same batch again
    BUSY = "database_busy"  # in the way of somebody else: the same batch again
    DATA = "data_at_fault"  # one of the records: find it
    BUG = "our_bug"  # crash; nothing is acknowledged


_AWAY = {
    "08",  # connection exception
    "28",  # role or password, while an operator changes them
    "53",  # disk full, out of memory, too many connections, configured limit
    "57",  # operator intervention: shutdown, crash, starting up
    "58",  # system error: I/O
    "XX",  # internal error, data corrupted: the server's trouble, not the records'
    "25006",  # read-only: a standby after failover
    "25P03",  # idle in transaction for too long: this process was frozen
    "25P04",  # transaction timeout
    "3D000",  # the database is not there (yet)
    "42501",  # permission denied, until somebody grants it
}
_BUSY = {
    "40",  # serialization failure, deadlock
    "55",  # lock not available, object in use
    "57014",  # statement timeout, or cancelled by an operator
}
_DATA = {
    "22",  # data exception: out of range, not text, untranslatable character
    "23",  # constraint
    "54",  # program limit: a key too long for its index
}


def trouble(error: psycopg.Error) -> Trouble:
    """What an error that psycopg raised means."""
    state = error.sqlstate
    if state is None:  # raised on our side of the line
        if isinstance(error, psycopg.DataError):  # a NUL in a text
            return Trouble.DATA
        return Trouble.AWAY if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else Trouble.BUG
    for known in (state, state[:2]):
        for states, meaning in ((_BUSY, Trouble.BUSY), (_AWAY, Trouble.AWAY), (_DATA, Trouble.DATA)):
            if known in states:
                return meaning
    return Trouble.BUG

"""Which records are what their sender says they are. Knows records and keys; decodes nothing.

One look for each record, and none at all while no device has to sign.
"""

from collections.abc import Sequence

from infra.security.keys import Keyring
from schemas.rejection import Rejection
from streams.agents.batches import Record

Forged = tuple[Record, Rejection, str]


def genuine(keyring: Keyring | None, records: list[Record]) -> tuple[list[Record], Sequence[Forged]]:
    """(those to be read, those that are not, and why). Raises `Refused` where there is nothing to judge by."""
    if keyring is None or not records:
        return records, ()
    keyring.refresh()
    if keyring.is_idle:
        return records, ()
    refusal = keyring.refusal
    kept: list[Record] = []
    forged: list[Forged] = []
    for record in records:
        why = refusal(record.topic, record.key or b"", record.value or b"", record.signature, record.timestamp)
        if why is None:
            kept.append(record)
        else:
            forged.append((record, *why))
    return kept, forged

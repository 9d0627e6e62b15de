"""How many records are taken from the client at once, so that a batch keeps its bound of rows and bytes.

A record holds one row or sixty thousand, which is known only when it is decoded; by then it is in the batch. So records
are asked for a few at a time, by their bytes: what those hold differs little from one large record to the next.
"""

from typing import Protocol

from confluent_kafka import Message

RECORDS_MAX = 2_000
"""One read; keeps callbacks and the database's answer from waiting behind decoding."""

AT_ONCE_MAX = 16
"""Small records may be followed by large ones: so many of these come beyond the bound. A call costs as much as a tenth
of decoding what it brings."""

ROWS_A_BYTE = 1 / 16
"""Before any have been seen: a reading takes some 16 to 20 bytes in a frame."""


class Client(Protocol):
    """What is used of a consumer."""

    def poll(self, timeout: float) -> Message | None: ...
    def consume(self, num_messages: int, timeout: float) -> list[Message]: ...


class Intake:
    """Of one consumer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rows_a_byte = ROWS_A_BYTE
        self._largest = 1.0  # bytes of a record, lately

    def take(self, timeout: float, *, rows: int, octets: int) -> list[Message]:
        """What has come, waiting up to `timeout` seconds for the first: about `rows` rows and `octets` bytes of it;
        beyond these one record, where it is like those before, and `AT_ONCE_MAX` at most."""
        found: list[Message] = []
        if timeout > 0:
            first = self._client.poll(timeout)
            if first is None:
                return []
            found.append(first)
        room = min(rows / self._rows_a_byte, octets) - self._sized(found)
        while len(found) < RECORDS_MAX and (room > 0 or not found):
            more = self._client.consume(
                int(max(1, min(AT_ONCE_MAX, RECORDS_MAX - len(found), room / self._largest))), 0
            )
            if not more:
                break
            found += more
            room -= self._sized(more)
        self._largest = max(1.0, 0.9 * self._largest)
        return found

    def learn(self, rows: int, octets: int) -> None:
        """What those of one `take` held."""
        if octets > 0:
            self._rows_a_byte += 0.2 * (max(rows, 1) / octets - self._rows_a_byte)

    def _sized(self, records: list[Message]) -> int:
        """Their bytes."""
        sizes = [len(record.value() or b"") for record in records]
        self._largest = max([self._largest, *sizes])
        return sum(sizes)

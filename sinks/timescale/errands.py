"""What the loop sends the database's thread for, beside storing a batch. All of it blocks, and may be tried again.

A neighbour that is away is `Waiting`, whichever of the two it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.alarms import Alarm
from schemas.errors import Unavailable
from sinks.timescale import alarms
from sinks.timescale.batch import Part
from sinks.timescale.claims import Identities, claims
from sinks.timescale.positions import Position, Replay
from sinks.timescale.store import Store
from sinks.timescale.writer import Waiting, waiting_for_database


@dataclass(frozen=True, slots=True)
class Errands:
    """`end_of_batch` is of a part's batch that begins at an offset and cannot be unpacked."""

    consumer: Consumer
    admin: AdminClient
    store: Store
    identities: Identities
    end_of_batch: Callable[[Part, int], int]

    def take_over(self, parts: list[Part]) -> list[tuple[Part, Position, Replay | None]]:
        """The positions of all parts, in the order of their locks."""
        with waiting_for_database(self.store):
            try:
                known = claims(self.consumer, self.admin, sorted(parts))
            except Unavailable as error:
                raise Waiting("broker_away", str(error)) from None
            self.identities.know(known)
            return [(claim.part, *self.store.open(claim)) for claim in known]

    def find_over(self) -> list[Alarm]:
        """Alarms that nobody else ends."""
        with waiting_for_database(self.store):
            try:
                return list(alarms.over(self.store.connection, self.admin))
            except (KafkaException, TimeoutError) as error:
                raise Waiting("broker_away", str(error)) from None

    def find_end(self, part: Part, begin: int, why: str) -> tuple[Part, int, int, str]:
        """Where a batch ends that cannot be unpacked: (part, begin, end, why)."""
        try:
            return part, begin, self.end_of_batch(part, begin), why
        except (Unavailable, KafkaException) as error:
            raise Waiting("broker_away", str(error)) from None

"""Consumed messages as entries of the pile: decoded, heartbeats looked at for who sent them. Knows Kafka's messages and
the contract; knows no database.
"""

from collections.abc import Sequence

from confluent_kafka import Message

from infra.security.keys import Keyring
from infra.telemetry import tracing
from schemas.signing import HEADER
from schemas.topics import HEARTBEATS
from sinks.timescale.batch import Body, Entry, Part, Refusal
from sinks.timescale.decode import Coded, Decoder


class Entries:
    """`keyring` says which devices sign; `is_traced`: frames that are followed are to be known by their header."""

    def __init__(self, decoder: Decoder, *, keyring: Keyring | None, is_traced: bool) -> None:
        self._decoder, self._keyring, self._is_traced = decoder, keyring, is_traced

    @property
    def topics(self) -> list[str]:
        """Whose messages can be read."""
        return self._decoder.topics

    def of(self, messages: Sequence[Message]) -> list[Entry]:
        """One for each message, of which none is an error. Raises nothing for bad bytes."""
        coded = [Coded(m.topic(), m.key(), m.value()) for m in messages]
        bodies = self._decoder.bodies(coded)
        return [self._entry(*each) for each in zip(messages, coded, bodies, strict=True)]

    def _entry(self, message: Message, coded: Coded, body: Body) -> Entry:
        topic, key, value = coded
        if topic == HEARTBEATS:
            body = self._if_genuine(message, body)
        trace = _header(message, tracing.HEADER) if self._is_traced else None
        return Entry(
            Part(topic, message.partition()), message.offset(), key, value, message.timestamp()[1], body, trace
        )

    def _if_genuine(self, message: Message, body: Body) -> Body:
        """A heartbeat in the name of a device that must sign, and did not, is refused."""
        if self._keyring is None:
            return body
        self._keyring.refresh()
        if self._keyring.is_idle:
            return body
        signature = _header(message, HEADER)
        _, appended_ms = message.timestamp()
        key, value = message.key() or b"", message.value() or b""
        why = self._keyring.refusal(HEARTBEATS, key, value, signature, appended_ms)
        return body if why is None else Refusal(*why)


def _header(message: Message, name: str) -> bytes | None:
    """The first of that name; None: there is none with a value."""
    try:
        headers = message.headers() or ()
    except SystemError:  # how confluent-kafka says that some header's name is no UTF-8: then none can be had
        return None
    return next((value for each, value in headers if each == name and isinstance(value, bytes)), None)

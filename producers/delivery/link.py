"""What stands between an edge and its broker, in words that an operator reads. Knows librdkafka's error codes."""

import re
from dataclasses import dataclass
from enum import StrEnum

from confluent_kafka import KafkaError


class Link(StrEnum):
    """State of the way to the broker."""

    CONNECTING = "connecting"
    UP = "up"
    AWAY = "away"  # no broker answers; librdkafka goes on trying
    NOT_ALLOWED = "not_allowed"  # the broker refuses who we are or what we write
    TOPIC_MISSING = "topic_missing"
    TOO_LARGE = "too_large"  # a single row that the broker takes in no message
    FAILED = "failed"  # anything else that the broker says no with
    DISK = "disk"  # the spool cannot note what was acknowledged


@dataclass(frozen=True, slots=True)
class LinkState:
    """The state and what to do about it."""

    link: Link
    detail: str = ""


_NOT_ALLOWED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError._SSL,
    }
)
_TOPIC_MISSING = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION})
_AWAY = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
    }
)
TOO_LARGE = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}  # one message, or the batch that it was alone in
)
PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})

_TRY = re.compile(r" \(after \d+ms in state \w+(, \d+ identical error\(s\) suppressed)?\)")
"""How a single try went: other each time, so that each would be told as news."""


def link_state(error: KafkaError, *, address: str) -> LinkState:
    """What an error means for the link."""
    code, said = error.code(), _TRY.sub("", error.str())
    if code in _NOT_ALLOWED:
        return LinkState(Link.NOT_ALLOWED, f"{address} refuses this edge: {said}; check its credential and ACL")
    if code in _TOPIC_MISSING:
        return LinkState(Link.TOPIC_MISSING, f"{address}: {said}; make the topics (`telltale topics provision`)")
    if code in _AWAY:
        return LinkState(Link.AWAY, f"{address} does not answer: {said}")
    return LinkState(Link.FAILED, f"{address}: {error.name()}: {said}")

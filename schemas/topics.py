"""The topic catalogue as data (`topics.toml`). Knows names, keys, retention and schemas; knows no broker.

Every component takes topic names from here; a name in quotes anywhere else is a mistake.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

PARTITIONS = 12
"""Partitions of every topic keyed by device. Fixed when the topics are made: another count would part devices
from their state. Twelve lets 1, 2, 3, 4, 6 or 12 workers share evenly."""

MARK = "telltale"
"""First word of the metadata in every offset that we commit: `telltale/<generation>`. An offset without it was
set by an operator and means: replay from here."""

STREAMS_GROUP = "telltale-streams"
SINK_GROUP = "telltale-sink"
NOTIFY_GROUP = "telltale-notify"

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it must be on the broker."""

    name: str
    about: str
    key: Literal["device", "alarm", "file"]
    schema: str
    times: Literal["broker", "producer"]
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    format: Literal["avro", "json"] = "avro"
    compact: bool = False
    retention_days: int | None = None
    max_message_bytes: int = 1_048_576
    own_partitions: int | None = None

    def partitions(self, device_partitions: int = PARTITIONS) -> int:
        """How many partitions the topic has, where topics keyed by device have `device_partitions`."""
        return self.own_partitions or device_partitions

    def config(self) -> dict[str, str]:
        """The topic's settings under Kafka's own names."""
        policies = (["compact"] if self.compact else []) + (["delete"] if self.retention_days else [])
        return {
            "cleanup.policy": ",".join(policies),
            "retention.ms": str(self.retention_days * DAY_MS if self.retention_days else -1),
            "message.timestamp.type": "LogAppendTime" if self.times == "broker" else "CreateTime",
            "max.message.bytes": str(self.max_message_bytes),
            # A state topic that is read whole at start must not wait a week for its first compaction.
            **({"min.cleanable.dirty.ratio": "0.1", "segment.ms": str(DAY_MS // 24)} if self.compact else {}),
        }


def _read() -> Mapping[str, Topic]:
    tables = tomllib.loads((files("schemas") / "topics.toml").read_text())
    topics = {}
    for name, table in tables.items():
        table["own_partitions"] = table.pop("partitions", None)
        for field in ("written_by", "read_by"):
            table[field] = tuple(table[field])
        topics[name] = Topic(name=name, **table)
    return MappingProxyType(topics)


TOPICS = _read()

READINGS_RAW = TOPICS["readings.raw"].name
HEARTBEATS = TOPICS["heartbeats"].name
DEVICES = TOPICS["devices"].name
READINGS_CLEAN = TOPICS["readings.clean"].name
WINDOWS = TOPICS["windows"].name
ALARMS = TOPICS["alarms"].name
ALARM_ACTIONS = TOPICS["alarm.actions"].name
READINGS_REJECTED = TOPICS["readings.rejected"].name
IMPORTS = TOPICS["imports"].name
STREAMS_STATE = TOPICS["streams.state"].name


def table() -> str:
    """The catalogue as a Markdown table, for the README."""
    lines = ["| topic | key | value | kept | partitions | written by | read by |", "|" + " --- |" * 7]
    for topic in TOPICS.values():
        kept = (["newest of each key"] if topic.compact else []) + (
            [f"{topic.retention_days} days"] if topic.retention_days else []
        )
        cells = (
            f"`{topic.name}`",
            topic.key,
            f"{topic.schema} ({topic.format})",
            ", ".join(kept),
            str(topic.partitions()),
            ", ".join(topic.written_by),
            ", ".join(topic.read_by),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"

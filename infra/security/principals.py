"""The stack's own services at its broker: a SCRAM-SHA-512 credential each, and the rights that its work needs.

The table is data; `ensure` makes the broker agree with it. Passwords lie in the stack's folder, one private file each;
the operator's (`telltale-ops`, super user) is in the broker's settings, so that there is somebody to make the others.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from infra.client import OPERATOR, SCRAM, password_file, read_password
from infra.security.credentials import ANSWER_S, ITERATIONS, PASSWORD_BYTES, RESERVED, answered, settled
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    DEVICES,
    HEARTBEATS,
    IMPORTS,
    NOTIFY_GROUP,
    READINGS_CLEAN,
    READINGS_RAW,
    READINGS_REJECTED,
    SINK_GROUP,
    STREAMS_GROUP,
    STREAMS_STATE,
    TOPICS,
    WINDOWS,
)

ALL = tuple(TOPICS)
TRANSACTIONS = f"{STREAMS_GROUP}-"
"""How the stage's transactional ids begin: one for each partition."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a service may do. All may ask about topics and groups (where, how many, how far)."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    """Consumer groups in which it is a member and commits."""
    transactions: str | None = None
    """How the transactional ids begin under which it writes."""
    settings: bool = False
    """Whether it may see the settings of topics."""


RIGHTS: Mapping[str, Rights] = {
    # Its own output it reads to see how a former owner's transaction has ended.
    "streams": Rights(
        reads=(READINGS_RAW, HEARTBEATS, ALARM_ACTIONS, DEVICES, ALARMS, STREAMS_STATE, READINGS_CLEAN, WINDOWS),
        writes=(READINGS_CLEAN, WINDOWS, ALARMS, ALARM_ACTIONS, READINGS_REJECTED, STREAMS_STATE),
        joins=(STREAMS_GROUP,),
        transactions=TRANSACTIONS,
    ),
    "sink": Rights(
        reads=tuple(topic.name for topic in TOPICS.values() if "sink" in topic.read_by),
        writes=(READINGS_REJECTED, ALARMS),
        joins=(SINK_GROUP,),
    ),
    # Uploaded and followed files are sent in their devices' names.
    "imports": Rights(
        reads=(DEVICES, IMPORTS, READINGS_REJECTED),
        writes=(READINGS_RAW, HEARTBEATS, IMPORTS, ALARMS),
    ),
    # Shows everything; writes what people do, and the rules that they set.
    "dashboard": Rights(reads=ALL, writes=(ALARM_ACTIONS, ALARMS, DEVICES)),
    "backup": Rights(writes=(ALARMS,)),
    # How old the first record is that waits, is told by that record.
    "watchdog": Rights(reads=ALL, writes=(ALARMS,), settings=True),
    "notify": Rights(reads=(ALARMS,), writes=(ALARMS,), joins=(NOTIFY_GROUP,)),
}
"""By the part of the stack."""


def name_of(part: str) -> str:
    """A part's principal; one without rights of its own is the operator."""
    return f"{RESERVED}{part}" if part in RIGHTS else OPERATOR


def environment(folder: Path, part: str) -> dict[str, str]:
    """How a part is told who it is. What a person's shell says of other brokers does not count here."""
    name = name_of(part)
    return {
        "TELLTALE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "TELLTALE_KAFKA_SASL_MECHANISM": "PLAIN" if name == OPERATOR else SCRAM,
        "TELLTALE_KAFKA_USERNAME": name,
        "TELLTALE_KAFKA_PASSWORD_FILE": str(password_file(folder, name)),
    }


def bindings(part: str) -> list[AclBinding]:
    """A part's rights, as the broker has them."""
    rights, who = RIGHTS[part], f"User:{name_of(part)}"
    topic, group, transaction = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID

    def may(what: AclOperation, kind: ResourceType, name: str, *, begins: bool = False) -> AclBinding:
        pattern = ResourcePatternType.PREFIXED if begins else ResourcePatternType.LITERAL
        return AclBinding(kind, name, pattern, who, "*", what, AclPermissionType.ALLOW)

    return [
        *(may(AclOperation.DESCRIBE, topic, name) for name in ALL),
        *(may(AclOperation.READ, topic, name) for name in rights.reads),
        *(may(AclOperation.WRITE, topic, name) for name in rights.writes),
        *(may(AclOperation.DESCRIBE_CONFIGS, topic, name) for name in (ALL if rights.settings else ())),
        may(AclOperation.DESCRIBE, group, RESERVED, begins=True),
        *(may(AclOperation.READ, group, name) for name in rights.joins),
        *(
            may(what, transaction, rights.transactions, begins=True)
            for what in (AclOperation.WRITE, AclOperation.DESCRIBE)
            if rights.transactions
        ),
    ]


def passwords(folder: Path) -> None:
    """Draws those that there are not yet."""
    for name in [OPERATOR, *map(name_of, RIGHTS)]:
        path = password_file(folder, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            coming = path.with_name(f".{name}.coming")
            with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(PASSWORD_BYTES))
            coming.replace(path)


def ensure(admin: AdminClient, folder: Path) -> None:
    """Every part has its password and its rights, and no others. Raises `Refused`, `Unavailable`."""
    users = [
        UserScramCredentialUpsertion(
            name_of(part),
            ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS),
            read_password(password_file(folder, name_of(part))).encode(),
            secrets.token_bytes(PASSWORD_BYTES),
        )
        for part in RIGHTS
    ]
    settled(admin.alter_user_scram_credentials(users, request_timeout=ANSWER_S))
    wanted = {binding for part in RIGHTS for binding in bindings(part)}
    ours = {f"User:{name_of(part)}" for part in RIGHTS}
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    there = answered(admin.describe_acls(every, request_timeout=ANSWER_S))
    found = {each for each in there if each.principal in ours}
    if missing := wanted - found:
        settled(admin.create_acls(list(missing), request_timeout=ANSWER_S))
    if surplus := found - wanted:
        settled(admin.delete_acls([_exactly(each) for each in surplus], request_timeout=ANSWER_S))


def _exactly(one: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation, one.permission_type
    )

"""Devices at the broker: a SCRAM-SHA-512 credential each, and the right to write readings and heartbeats, nothing else.

Knows the broker alone: what it has is what there is.
"""

import re
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
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
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from schemas.devices import DEVICE_ID
from schemas.errors import Refused, Unavailable
from schemas.topics import HEARTBEATS, READINGS_RAW

ANSWER_S = 20.0
ITERATIONS = 8192  # Kafka's own choice is 4096; passwords here are random, so more would only slow logins down
PASSWORD_BYTES = 32
WRITES = (READINGS_RAW, HEARTBEATS)
RESERVED = "telltale-"
"""What the names of our own services begin with. A device of such a name would get their rights."""
ANONYMOUS = "ANONYMOUS"
NO_SUCH_USER = "RESOURCE_NOT_FOUND"
NO_AUTHORIZER = "SECURITY_DISABLED"


def add(admin: AdminClient, device_id: str) -> str:
    """A new device's password, which is known nowhere else. Raises `Refused` if it has one."""
    allow_new(admin, device_id)
    return _set_password(admin, device_id)


def allow_new(admin: AdminClient, device_id: str) -> None:
    """A device's rights without a password: it shows a certificate. Raises `Refused` if it is known."""
    check_name(device_id)
    if device_id in known(admin):
        raise Refused(f"device {device_id} has a credential; a new password: telltale device rotate {device_id}")
    _allow(admin, device_id)


def rotate(admin: AdminClient, device_id: str) -> str:
    """A new password; the old one is refused from the next login on."""
    check_known(admin, device_id)
    _allow(admin, device_id)
    return _set_password(admin, device_id)


def revoke(admin: AdminClient, device_id: str) -> None:
    """No right and no credential any more. Connections that are open may write nothing from now on."""
    check_known(admin, device_id)
    gone = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, _principal(device_id), None, AclOperation.ANY,
        AclPermissionType.ANY,
    )  # fmt: skip
    settled(admin.delete_acls([gone], request_timeout=ANSWER_S))
    deletion = UserScramCredentialDeletion(device_id, ScramMechanism.SCRAM_SHA_512)
    for answer in admin.alter_user_scram_credentials([deletion], request_timeout=ANSWER_S).values():
        try:
            answer.result(ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            # One with a certificate has no password.
            if isinstance(error, TimeoutError) or error.args[0].name() != NO_SUCH_USER:
                raise _trouble(error) from None


def known(admin: AdminClient) -> dict[str, list[str]]:
    """Each device with a password or a right, and the topics to which it may write."""
    users = answered(admin.describe_user_scram_credentials(request_timeout=ANSWER_S))
    every = AclBindingFilter(
        ResourceType.TOPIC, None, ResourcePatternType.ANY, None, None, AclOperation.WRITE, AclPermissionType.ALLOW
    )
    bindings = answered(admin.describe_acls(every, request_timeout=ANSWER_S))
    rights: dict[str, list[str]] = {name: [] for name in users}
    for binding in bindings:
        rights.setdefault(binding.principal.removeprefix("User:"), []).append(binding.name)
    return {name: sorted(topics) for name, topics in sorted(rights.items()) if not name.startswith(RESERVED)}


def check_name(device_id: str) -> None:
    """Raises `Refused` for what cannot be a device's name, or is the name of somebody with other rights."""
    if device_id.lower().startswith(RESERVED) or device_id == ANONYMOUS:
        raise Refused(f"device {device_id}: names that begin with {RESERVED} are those of Telltale's own services")
    if not re.fullmatch(DEVICE_ID, device_id):  # the broker would take `*` for everybody
        raise Refused(
            f"device {device_id!r}: expected the name of a device, 1 to 128 letters, digits, dots, dashes and "
            "underscores that begin with a letter or digit"
        )


def check_known(admin: AdminClient, device_id: str) -> None:
    """Raises `Refused` for a device without credential and rights."""
    if device_id not in known(admin):
        raise Refused(f"device {device_id} has no credential; see: telltale device list")


def _allow(admin: AdminClient, device_id: str) -> None:
    """To write; describing a topic and idempotent production are implied by it."""
    bindings = [
        AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, _principal(device_id), "*", AclOperation.WRITE,
            AclPermissionType.ALLOW,
        )
        for topic in WRITES
    ]  # fmt: skip
    settled(admin.create_acls(bindings, request_timeout=ANSWER_S))


def _set_password(admin: AdminClient, device_id: str) -> str:
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    upsertion = UserScramCredentialUpsertion(
        device_id,
        ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS),
        password.encode(),
        secrets.token_bytes(PASSWORD_BYTES),
    )
    settled(admin.alter_user_scram_credentials([upsertion], request_timeout=ANSWER_S))
    return password


def _principal(device_id: str) -> str:
    return f"User:{device_id}"


def settled(answers: Mapping[Any, Future[Any]]) -> None:
    """Waits for all. Raises `Refused`, `Unavailable`."""
    for answer in answers.values():
        answered(answer)


def answered(answer: Future[Any]) -> Any:
    """What the broker says. Raises `Refused`, `Unavailable`."""
    try:
        return answer.result(ANSWER_S)
    except (KafkaException, TimeoutError) as error:
        raise _trouble(error) from None


def _trouble(error: KafkaException | TimeoutError) -> Refused | Unavailable:
    if isinstance(error, TimeoutError):
        return Unavailable(f"Kafka: no answer within {ANSWER_S:.0f} s")
    if error.args[0].name() == NO_AUTHORIZER:
        return Refused(
            "this broker lets everybody write: it runs without an authorizer. Start it with a listener for devices: "
            "telltale tls init --name HOST, then telltale up --devices HOST:PORT"
        )
    return Unavailable(f"Kafka: {error.args[0].str()}")

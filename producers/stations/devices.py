"""The `devices` topic: publish configurations, and read all that are in force. Knows Kafka; knows no file.

Waits are bounded: a broker that does not answer is `Unavailable`, never a hang.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from infra.client import connection
from infra.counted import counted
from infra.whole_topic import ANSWER_S, partitions_of, read_to_end
from producers.stations.rules.placing import adopted, some
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.devices import Device
from schemas.errors import Refused, Unavailable
from schemas.keys import PARTITIONER
from schemas.topics import DEVICES, TOPICS


def configure(kafka: str, devices: Iterable[Device], *, security: Mapping[str, Any] | None = None) -> int:
    """Publish devices as a file describes them; alarm rules that stand for them stay. Raises as `publish`."""
    known = read_devices(kafka, security=security)
    return publish(kafka, [adopted(device, known) for device in devices], security=security)


def publish(
    kafka: str,
    devices: Iterable[Device],
    *,
    codec: Codec | None = None,
    security: Mapping[str, Any] | None = None,
) -> int:
    """Write the devices' configurations; returns how many when the broker has all of them.

    Raises `Refused` for a record that is too large, `Unavailable` when the broker does not take them in time.
    """
    codec = codec or Codec()
    return _write(kafka, ((device.device_id, codec.encode(device)) for device in devices), security)


def remove(kafka: str, device_ids: Iterable[str], *, security: Mapping[str, Any] | None = None) -> int:
    """Take devices out of the configuration; returns how many when the broker knows. Raises as `publish`."""
    return _write(kafka, ((device_id, None) for device_id in device_ids), security)


def named(configured: Mapping[str, Device], names: Iterable[str]) -> list[Device]:
    """The devices of these names. Raises `Refused` for the first that is not configured."""
    found = []
    for name in names:
        if name not in configured:
            raise Refused(f'no device "{name}" is configured; there are: {some(configured)}')
        found.append(configured[name])
    return found


def _write(kafka: str, records: Iterable[tuple[str, bytes | None]], security: Mapping[str, Any] | None) -> int:
    """Configurations by device; None: it is to be no more."""
    topic = TOPICS[DEVICES]
    producer = Producer(
        {
            **connection(kafka),
            **(security or {}),
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "compression.type": "zstd",
            "message.max.bytes": topic.max_message_bytes,
            "message.timeout.ms": int(2 * ANSWER_S * 1000),
            "linger.ms": 5,
        }
    )
    partitions_of(producer, kafka, DEVICES)
    failures: list[KafkaError] = []
    count = 0
    for device_id, data in records:
        try:
            producer.produce(DEVICES, data, device_id.encode(), on_delivery=_keep(failures))
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise Refused(
                    f"device {device_id}: its configuration has {len(data or b'')} bytes, "
                    f"the topic {DEVICES} takes {topic.max_message_bytes}"
                ) from None
            raise Unavailable(f"kafka at {kafka}: {error.args[0].str()}") from None
        except BufferError:
            producer.flush(ANSWER_S)
            producer.produce(DEVICES, data, device_id.encode(), on_delivery=_keep(failures))
        count += 1
    left = producer.flush(3 * ANSWER_S)
    if left or failures:
        why = failures[0].str() if failures else "does not answer"
        raise Unavailable(f"kafka at {kafka}: {left + len(failures)} of {counted(count, 'device')} not taken: {why}")
    return count


def read_devices(
    kafka: str,
    *,
    codec: Codec | None = None,
    security: Mapping[str, Any] | None = None,
    answer_s: float | None = None,
) -> dict[str, Device]:
    """Every device in force, by id: the topic read once from its beginning to its end, committed records only.

    A record without a value removes its device. One that cannot be read is logged and leaves what was before.
    Raises `Unavailable`.
    """
    codec = codec or Codec()
    devices: dict[str, Device] = {}
    for message in read_to_end(kafka, DEVICES, group="telltale-stations-show", security=security, answer_s=answer_s):
        _apply(devices, message, codec)
    return devices


def _apply(devices: dict[str, Device], message: Any, codec: Codec) -> None:
    """One record onto the devices in force."""
    key = (message.key() or b"").decode(errors="replace")
    value = message.value()
    if value is None:
        devices.pop(key, None)
        return
    try:
        devices[key] = codec.decode(Device, value)
    except Unreadable as error:
        import structlog  # noqa: PLC0415 - rarely needed, and large for an edge

        structlog.get_logger().warning(
            "device.unreadable",
            device_id=key,
            partition=message.partition(),
            offset=message.offset(),
            reason=error.reason,
            detail=error.detail,
        )


def _keep(failures: list[KafkaError]) -> Any:
    def delivered(error: KafkaError | None, _: Any) -> None:
        if error is not None:
            failures.append(error)

    return delivered

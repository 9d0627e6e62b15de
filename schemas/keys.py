"""Which partition a key belongs to: murmur2 as Kafka's Java client, librdkafka's `murmur2_random` and Kafka's tools."""

PARTITIONER = "murmur2_random"
"""librdkafka's name for it; every producer of keyed records is told so."""

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2, 32 bits, with the seed of org.apache.kafka.common.utils.Utils.murmur2."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(device_id: str, partitions: int) -> int:
    """The partition, of `partitions`, that holds the records of a device."""
    return (murmur2(device_id.encode()) & 0x7FFFFFFF) % partitions

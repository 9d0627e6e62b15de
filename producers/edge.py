"""An edge in one's own program: accept readings, and they get there. Knows the spool and the sender; opens both.

    with Edge(EdgeSettings(device_id="mast-7", kafka="broker:9092")) as edge:
        edge.accept(datetime.now(UTC), "Spd80mN", 7.3)

`accept` returns when the reading is on disk. It may wait for the disk, never for the network; any thread may call it.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from infra.telemetry.tracing import Tracing
from producers.delivery.aside import States
from producers.delivery.sender import Progress, Sender
from producers.settings import EdgeSettings
from producers.spool import Counts, FileMark, Rows, Spool
from schemas.errors import Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

LOOK_S = 0.02  # at what the sender has done, where somebody waits for it

Time = datetime | int | None
"""An aware datetime, UTC microseconds since 1970, or None for this computer's clock."""


def wall_clock_us() -> int:
    return time.time_ns() // 1000


def time_us(at: Time) -> int:
    """UTC microseconds. Raises `Refused` for a time without a zone."""
    if at is None:
        return wall_clock_us()
    if isinstance(at, datetime):
        if at.utcoffset() is None:
            raise Refused(f"time {at.isoformat()} has no zone; give an aware datetime or UTC microseconds")
        return (at - EPOCH) // MICROSECOND
    return int(at)


class Edge:
    """Spool and sender of one process. Use it as a context manager, or call `close`.

    Raises `Refused` when another process has the spool, and for settings that do not fit together; `Unavailable` when
    its folder cannot be written.
    """

    def __init__(
        self,
        settings: EdgeSettings | None = None,
        *,
        address: str | None = None,
        devices: Sequence[str] = (),
        sources: States = lambda _: (),
        beats: bool = True,
        tracing: Tracing | None = None,
    ) -> None:
        """`devices` have heartbeats from the start; `sources` says how those of a device do.

        With `tracing`, which is closed with the edge, some frames are followed to the database.
        Without `beats` no device has any: who imports a device's files is not the device, and does not know how it is.
        """
        from infra.stack import kafka_address  # noqa: PLC0415 - only composition needs the stack

        self.settings = settings or EdgeSettings()
        self.address = address or kafka_address(self.settings.kafka)
        device_id = self.settings.device_id
        self.spool = Spool(
            self.settings.spool_folder(device_id or "edge"), clock_us=wall_clock_us, limits=self.settings.limits()
        )
        try:
            self._sender = Sender(
                self.spool,
                address=self.address,
                settings=self.settings,
                devices=tuple(dict.fromkeys((*([device_id] if device_id else []), *devices))),
                clock_us=wall_clock_us,
                sources=sources,
                beats=beats,
                tracing=tracing,
            )
            self._sender.start()
        except BaseException:
            self.spool.close()
            raise
        self._tracing = tracing
        self.waiting = 0  # readings left in the spool by `close`
        self._closed = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, drain_s: float = 0.0) -> None:
        """End. What is not acknowledged within `drain_s` stays in the spool for the next start."""
        if not self._closed.acquire(blocking=False):
            return
        self._sender.stop(drain_s=drain_s)
        if self._tracing is not None:
            self._tracing.end()
        self.waiting = self._waiting()
        self.spool.close()
        self._raise_failure()

    def accept(self, at: Time, channel: str, value: float, *, device_id: str | None = None) -> None:
        """One reading is on disk when this returns. NaN: the sensor says that it is missing.

        Raises `SpoolFull` and `DiskTrouble`; then it was not accepted.
        """
        self.accept_frame([at], [channel], [[value]], device_id=device_id)

    def accept_row(self, at: Time, values: Mapping[str, float], *, device_id: str | None = None) -> None:
        """Readings of one moment: {channel: value}."""
        self.accept_frame([at], list(values), [list(values.values())], device_id=device_id)

    def accept_frame(
        self,
        times: Sequence[Time] | npt.NDArray[np.int64],
        channels: Sequence[str],
        values: Sequence[Sequence[float]] | npt.NDArray[np.float64],
        *,
        status: Sequence[int] | None = None,
        device_id: str | None = None,
    ) -> None:
        """n rows of c channels, all or none. `times` is (n,), `values` (n, c), `status` (n,)."""
        device = device_id or self.settings.device_id
        if device is None:
            raise Refused("whose reading is it? Give device_id to accept or to EdgeSettings")
        if isinstance(times, np.ndarray):
            at = times.astype(np.int64)
        else:
            at = np.array([time_us(each) for each in times], np.int64)
        try:
            grid = np.array(values, np.float64)
        except ValueError as error:
            raise Refused(f"device {device}: values must be numbers in rows of {len(channels)}: {error}") from None
        words = None if status is None else np.array(status, np.int64)
        self.accept_rows([Rows(device, at, tuple(channels), grid, words)])

    def accept_rows(
        self,
        rows: Iterable[Rows],
        *,
        mark: FileMark | None = None,
        place: tuple[str, str] | None = None,
        waits: bool = False,
    ) -> None:
        """What files and sources call: rows that are arrays already, and how far their source has come.

        See `Spool.accept`.
        """
        self._raise_failure()
        self.spool.accept(list(rows), mark=mark, place=place, waits=waits)
        self._sender.wake()

    def publish(self, topic: str, key: str, value: bytes) -> None:
        """A record beside the readings, sent if the broker is there."""
        self._sender.publish(topic, key, value)

    def hush(self, device_id: str, *, silent: bool) -> None:
        """Withhold a device's heartbeats, or no longer: for simulated silence."""
        self._sender.hush(device_id, silent=silent)

    @property
    def turned_at(self) -> float:
        """time.monotonic() of the sender's last turn: it turns several times a second, whatever the broker does."""
        return self._sender.turned_at

    @property
    def progress(self) -> Progress:
        self._raise_failure()
        return self._sender.progress

    @property
    def drained(self) -> bool:
        """Whether the broker has acknowledged all that was accepted."""
        return self._sender.drained

    def waiting_after(self, within_s: float) -> int:
        """Readings without an acknowledgement, once there are none or so long has passed."""
        until = time.monotonic() + within_s
        while not self.drained and time.monotonic() < until:
            time.sleep(LOOK_S)
        return self._waiting()

    def counts(self, device_id: str | None = None) -> Counts:
        """What a device has gone through, by this spool."""
        return self.spool.counts(device_id or self.settings.device_id or "")

    def _waiting(self) -> int:
        counts = [self.spool.counts(device) for device in self.spool.devices()]
        return sum(each.accepted - each.sent - each.dropped for each in counts)

    def _raise_failure(self) -> None:
        if self._sender.failure is not None:
            raise RuntimeError("the sender ended; what was accepted is in the spool") from self._sender.failure

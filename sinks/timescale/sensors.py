"""Numbers for sensors: (device, channel) to sensor_id, given on first sight and remembered."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg

from schemas.frames import CleanFrame, WindowFrame
from sinks.timescale.rows import Ids

KNOWN_MAX = 1_000_000  # some 200 bytes each; beyond it the memory starts anew, which costs one look-up each

NUMBERS = "SELECT device_id, channel, sensor_id FROM sensors WHERE device_id = ANY(%s::text[])"

GIVE = """
INSERT INTO sensors (device_id, channel)
SELECT * FROM unnest(%s::text[], %s::text[]) ORDER BY 1, 2
ON CONFLICT DO NOTHING"""

Columns = tuple[str, tuple[str, ...]]
"""A device and its channels."""


class Sensors:
    """The numbers known so far. A number never changes, so another sink's numbers are ours too."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}  # by device, by channel
        self._count = 0
        self._by_columns: dict[Columns, Ids] = {}

    def of(self, connection: psycopg.Connection[Any], frames: Sequence[CleanFrame | WindowFrame]) -> list[Ids]:
        """The sensors of each frame's channels. Writes, in a transaction of its own, only what is new."""
        if self._count > KNOWN_MAX:
            self.forget()
        wanted = [(frame.device_id, frame.channels) for frame in frames]
        missing = {columns for columns in wanted if columns not in self._by_columns}
        if missing:
            self._learn(connection, missing)
        return [self._by_columns[columns] for columns in wanted]

    def known(self, frames: Sequence[CleanFrame | WindowFrame]) -> list[Ids] | None:
        """The same where all of them are remembered, else None."""
        try:
            return [self._by_columns[frame.device_id, frame.channels] for frame in frames]
        except KeyError:
            return None

    def forget(self) -> None:
        """Look everything up anew."""
        self._numbers.clear()
        self._by_columns.clear()
        self._count = 0

    def _learn(self, connection: psycopg.Connection[Any], missing: set[Columns]) -> None:
        self._look_up(connection, missing)
        new = self._unknown(missing)
        if new:
            connection.execute(GIVE, ([device for device, _ in new], [channel for _, channel in new]))
            self._look_up(connection, missing)
        for device, channels in missing:
            numbers = self._numbers.get(device, {})
            self._by_columns[device, channels] = np.array([numbers[channel] for channel in channels], np.int32)

    def _look_up(self, connection: psycopg.Connection[Any], columns: set[Columns]) -> None:
        """All channels of the devices of which one is not known: a device is asked for, not each of its sensors."""
        devices = list({device for device, _ in self._unknown(columns)})
        if not devices:
            return
        for device, channel, number in connection.execute(NUMBERS, (devices,)):
            known = self._numbers.setdefault(device, {})
            self._count += channel not in known
            known[channel] = number

    def _unknown(self, columns: set[Columns]) -> set[tuple[str, str]]:
        return {
            (device, channel)
            for device, channels in columns
            for channel in channels
            if channel not in self._numbers.get(device, ())
        }

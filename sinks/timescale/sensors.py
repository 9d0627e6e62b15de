"""Numbers for sensors: (device, channel) to sensor_id, given on first sight and remembered."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg

from schemas.frames import CleanFrame, WindowFrame
from sinks.timescale.rows import Ids

KNOWN_MAX = 1_000_000  # some 200 bytes each; beyond it the memory starts anew, which costs one look-up each

NUMBERS = """
SELECT device_id, channel, sensor_id FROM sensors
JOIN unnest(%s::text[], %s::text[]) AS wanted (device_id, channel) USING (device_id, channel)"""

GIVE = """
INSERT INTO sensors (device_id, channel)
SELECT * FROM unnest(%s::text[], %s::text[]) ORDER BY 1, 2
ON CONFLICT DO NOTHING"""


class Sensors:
    """The numbers known so far. A number never changes, so another sink's numbers are ours too."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._by_columns: dict[tuple[str, tuple[str, ...]], Ids] = {}

    def of(self, connection: psycopg.Connection[Any], frames: Sequence[CleanFrame | WindowFrame]) -> list[Ids]:
        """The sensors of each frame's channels. Writes, in a transaction of its own, only what is new."""
        missing = {
            columns for frame in frames if (columns := (frame.device_id, frame.channels)) not in self._by_columns
        }
        if missing:
            self._learn(connection, missing)
        return [self._by_columns[frame.device_id, frame.channels] for frame in frames]

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

    def _learn(self, connection: psycopg.Connection[Any], columns: set[tuple[str, tuple[str, ...]]]) -> None:
        pairs = {(device, channel) for device, channels in columns for channel in channels} - self._numbers.keys()
        if len(self._numbers) + len(pairs) > KNOWN_MAX:
            self.forget()
        for give in (False, True):
            wanted = sorted(pairs - self._numbers.keys())
            if not wanted:
                break
            arrays = ([device for device, _ in wanted], [channel for _, channel in wanted])
            if give:
                connection.execute(GIVE, arrays)
            found = connection.execute(NUMBERS, arrays).fetchall()
            self._numbers |= {(device, channel): number for device, channel, number in found}
        for device, channels in columns:
            self._by_columns[device, channels] = np.array([self._numbers[device, c] for c in channels], np.int32)

"""Simulated devices through an edge, and the truth about them into a file. Knows an open edge; makes no readings.

The truth is JSON lines: `start` with what was asked, `rows` as they were handed over, `fault` with what was put where,
`end` with counts per device.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from producers.edge import Edge
from producers.files.order import Order
from producers.simulator.devices import Outcome, SimulatedDevice, Strange
from producers.spool import DiskTrouble, Rows, SpoolFull
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW

STRANGE_SPOOL = "simulated"  # frames that name another device are of no spool


@dataclass(slots=True)
class Tally:
    """Of one device, in rows and readings handed over.

    `distinct_rows` counts what a database should have: times, whichever faults made two rows of one.
    """

    rows: int = 0
    readings: int = 0
    distinct_rows: int = 0
    refused: int = 0
    strange: int = 0
    faults: int = 0


class Truth:
    """The file, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("wb")
            except OSError as error:
                raise Unavailable(f"{path}: {error.strerror}") from None

    def write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(record) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Player:
    """Steps devices and hands over what they do: one commit for all of them."""

    def __init__(self, edge: Edge, devices: Sequence[SimulatedDevice], truth: Truth) -> None:
        self._edge = edge
        self._devices = devices
        self._truth = truth
        self._codec = Codec()
        self._strange = 0
        self.tallies = {device.device_id: Tally() for device in devices}
        self._orders = {device.device_id: Order(kept_max=device.rows_within_reach) for device in devices}

    def step(self, rows: int, *, waits: bool = False) -> None:
        """The next rows of every device. With `waits` a full spool is waited for, else counted as refused."""
        outcomes = [(device.device_id, device.step(rows)) for device in self._devices]
        all_rows = [each for _, outcome in outcomes for each in outcome.rows]
        taken = self._accept(all_rows, waits=waits) if all_rows else True
        for device_id, outcome in outcomes:
            self._edge.hush(device_id, silent=outcome.silent)
            self._count(device_id, outcome, taken=taken)
            for strange in outcome.strange:
                self._edge.publish(READINGS_RAW, strange.device_id, self._bytes(strange))
            if taken:
                self._note(outcome)

    def _accept(self, rows: list[Rows], *, waits: bool) -> bool:
        while True:
            with suppress(SpoolFull, DiskTrouble):
                self._edge.accept_rows(rows, waits=waits)
                return True
            if not waits:
                return False
            time.sleep(0.05)

    def _count(self, device_id: str, outcome: Outcome, *, taken: bool) -> None:
        tally = self.tallies[device_id]
        rows = sum(len(each.times) for each in outcome.rows)
        readings = sum(each.readings for each in outcome.rows)
        tally.faults += len(outcome.truth)
        tally.strange += len(outcome.strange)
        if taken:
            tally.rows += rows
            tally.readings += readings
            order = self._orders[device_id]
            for each in outcome.rows:
                order.take(each.times)
            tally.distinct_rows = tally.rows - order.repeated
        else:
            tally.refused += readings

    def _note(self, outcome: Outcome) -> None:
        for each in outcome.rows:
            record = {"device": each.device_id, "times": each.times.tolist(), "channels": each.channels}
            self._truth.write({"rows": {**record, "values": each.values.tolist()}})
        for fault in outcome.truth:
            self._truth.write({"fault": fault})

    def _bytes(self, strange: Strange) -> bytes:
        if strange.rows is None:
            return strange.data
        rows = strange.rows
        self._strange += 1
        frame = RawFrame(rows.device_id, STRANGE_SPOOL, self._strange, rows.times, rows.channels, rows.values)
        return self._codec.encode(frame)

    def end(self) -> dict[str, dict[str, int]]:
        """Counts per device, also written."""
        counts = {device_id: asdict(tally) for device_id, tally in self.tallies.items()}
        self._truth.write({"end": counts})
        self._truth.close()
        return counts

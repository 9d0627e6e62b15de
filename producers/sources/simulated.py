"""A made-up device as a source. Knows the simulator; its readings are those of `telltale edge simulate`."""

import threading
import time
from dataclasses import dataclass

from producers.edge import Edge, wall_clock_us
from producers.simulator.devices import SimulatedDevice
from producers.simulator.faults import parse_faults
from producers.simulator.playing import Player, Truth
from producers.sources.port import Intake


@dataclass(slots=True)
class Simulate:
    """See `Source`."""

    edge: Edge
    sensors: int
    rate: float
    faults: str
    seed: int

    def run(self, intake: Intake, stop: threading.Event) -> None:
        device = SimulatedDevice(
            intake.device_id,
            sensors=self.sensors,
            rate=self.rate,
            faults=parse_faults(self.faults),
            seed=(self.seed,),
            start_us=wall_clock_us(),
        )
        player = Player(self.edge, [device], Truth(None))
        due, counted = time.monotonic(), 0
        while not stop.is_set():
            player.step(1)
            tally = player.tallies[intake.device_id]
            intake.count(tally.readings - counted)
            counted = tally.readings
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            stop.wait(due - time.monotonic())
        self.edge.hush(intake.device_id, silent=False)

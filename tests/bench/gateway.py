"""An edge of its own process with one spool for its devices; says as a JSON line what it has done.

It says `ready` when its spool is open and begins when a line comes in. With `every_s` each device has its own moment
for a row in each such time, and a row's time is that of its accept; without it rows are accepted as fast as it goes,
one commit for all devices, a second between rows by their own times.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from producers import Edge, EdgeSettings
from producers.spool import Rows

DRAIN_S_MAX = 300


def main() -> None:
    asked = json.loads(sys.argv[1])
    devices, channels = asked["devices"], tuple(asked["channels"])
    chance = np.random.default_rng(asked["seed"])
    # As a logger writes it: three decimals.
    values = chance.normal(8, 2, (len(devices), asked["rows"], len(channels))).round(3)
    with Edge(EdgeSettings(kafka=asked["kafka"], spool=Path(asked["spool"])), devices=devices) as edge:
        print("ready", flush=True)
        sys.stdin.readline()
        cpu_s, began = time.process_time(), time.time()
        if asked["every_s"]:
            paced(edge, devices, channels, values, every_s=asked["every_s"])
        else:
            burst(edge, devices, channels, values, start_us=asked["start_us"], together=asked["together"])
        accepted = time.time()
        left = edge.waiting_after(DRAIN_S_MAX)
        acknowledged = time.time()
        done = {
            "began": began,
            "accepted": accepted,
            "acknowledged": acknowledged,
            "readings": values.size - left,
            "frames": edge.progress.frames,
            "cpu_s": time.process_time() - cpu_s,
        }
    print(json.dumps(done), flush=True)
    sys.stdin.readline()  # whoever started it looks at its memory


def paced(edge: Edge, devices: list[str], channels: tuple[str, ...], values: np.ndarray, *, every_s: float) -> None:
    began = time.monotonic()
    for row in range(values.shape[1]):
        for at, device_id in enumerate(devices):
            wait_s = began + (row + at / len(devices)) * every_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            edge.accept_frame([None], channels, values[at, row : row + 1], device_id=device_id)


def burst(
    edge: Edge, devices: list[str], channels: tuple[str, ...], values: np.ndarray, *, start_us: int, together: int
) -> None:
    """`together` rows of each device in one commit."""
    for row in range(0, values.shape[1], together):
        part = values[:, row : row + together]
        times = start_us + (row + np.arange(part.shape[1], dtype=np.int64)) * 1_000_000
        edge.accept_rows([Rows(each, times, channels, part[at]) for at, each in enumerate(devices)])


if __name__ == "__main__":
    main()

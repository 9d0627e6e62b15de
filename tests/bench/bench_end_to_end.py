"""The whole way: from the edge's accept to the visible row, through a stack as `telltale up` starts it.

Ten edges of a process and a spool each. First 10, 100 and 1,000 devices accept rows of twenty channels at their own
moments, each row synced on its own and stamped when it is accepted: how late is it visible, on a stack that has been at
work for a while. Then 50 devices accept one and ten million readings as fast as the disk allows: how many a second from
the first accept to the last visible row, and what that costs each process, the disk and the wire. The limit is psql's
COPY of a million of the same readings into the same server. The rows of every part are counted: each accepted reading
is there, once.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import psycopg
from bench_sink import bare_copy, frames, in_order
from bench_sizing import NAMES, Site, of_load, site
from bench_stack import Figure, figure, peak_mb, share_of
from bench_stage import START_US, device
from fix_services import steadily
from visible import Stock, clean, watched

from producers.stations.devices import publish

WINS = """
psql's COPY wins: nothing else works on its two cores, and it checks nothing. Here edges, broker, stage, sink and
database share them; the database's own part is two fifths of the CPU.
"""

PARTS = "kafka,postgres,topics,streams,sink"
EDGES = 10
FLEETS = {10: 1.0, 100: 1.0, 1_000: 10.0}  # devices, and seconds from one row of a device to its next
TIMED_S, WARM_S = 40, 10
WARM_UP_S = 80  # in its first minute Java's compiler takes half a core from whoever is measured
DEVICES, TOGETHER = 50, 10  # rows of a commit
LOADS = (1_000_000, 10_000_000)
LIMIT_READINGS = 1_000_000
LOOK_S = 0.003
GATEWAY = Path(__file__).parent / "gateway.py"
COUNT = "SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE device_id LIKE %s"


def run() -> Iterator[Figure]:
    """Latency at each fleet, then each load beside the limit, then memory."""
    with site(PARTS) as one, memory_of(one) as most:
        edges(one, "warm", configured(one, "warm", 100), rows=WARM_UP_S, every_s=1.0)
        for fleet, every_s in FLEETS.items():
            yield from latency(one, fleet, every_s)
        sent = list(frames(in_order()))[: share_of(LIMIT_READINGS, 200) // 200]
        limit = bare_copy(one.status["database"], one.folder, sent)
        yield figure("end_to_end", "psql COPY of the same readings (limit)", limit, "readings/s")
        for readings in LOADS:
            yield from load(one, readings, limit, most)
    for part, megabytes in sorted(most.items()):
        yield figure("end_to_end", f"memory of {part} at its peak", megabytes, "MB")


@contextmanager
def memory_of(one: Site) -> Iterator[dict[str, float]]:
    """The most that each part has had, in MB, looked at each half second."""
    most: dict[str, float] = {}

    def look() -> None:
        with suppress(psutil.NoSuchProcess):  # a session of the database that has just ended
            for part, megabytes in one.memory_mb().items():
                most[part] = max(most.get(part, 0.0), megabytes)

    with steadily(look, every_s=0.5):
        yield most


def edges(one: Site, name: str, devices: Sequence[str], **asked: object) -> list[dict[str, float]]:
    """Run the edges, the devices shared among them; what each has done."""
    with ExitStack() as running:
        processes = []
        for number in range(EDGES):
            words = {
                "kafka": one.kafka,
                "spool": str(one.folder / "edges" / f"{name}-{number}"),
                "devices": devices[number::EDGES],
                "channels": NAMES,
                "seed": number,
                "every_s": None,
                **asked,
            }
            command = [sys.executable, "-P", str(GATEWAY), json.dumps(words)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen(command, env=one.env, **pipes)
            processes.append(running.enter_context(process))
            running.callback(process.kill)
        for process in processes:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("an edge did not start; it said why")
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        done = [json.loads(process.stdout.readline()) for process in processes]
        return [each | {"peak_mb": peak_mb(process.pid)} for each, process in zip(done, processes, strict=True)]


def configured(one: Site, name: str, number: int) -> list[str]:
    """Ids of devices that everybody knows."""
    known = [device(f"{name}-{each}", NAMES) for each in range(number)]
    publish(one.kafka, known)
    one.settle()
    return [each.device_id for each in known]


def checked(one: Site, name: str, accepted: int) -> None:
    """Raises `RuntimeError` unless each accepted reading is a row."""
    with psycopg.connect(one.status["database"], autocommit=True) as connection:
        (rows,) = connection.execute(COUNT, (f"{name}-%",)).fetchone()
    if rows != accepted:
        raise RuntimeError(f"{accepted} readings of {name} were accepted and acknowledged, {rows} rows are there")


def latency(one: Site, fleet: int, every_s: float) -> Iterator[Figure]:
    """From each row's accept to its visible readings."""
    name, rows = f"fleet{fleet}", round((WARM_S + share_of(TIMED_S, 10)) / every_s)
    devices = configured(one, name, fleet)
    with watched(one.status["database"], every_s=LOOK_S) as marks:
        done = edges(one, name, devices, rows=rows, every_s=every_s)
        one.settle()
        time.sleep(2 * LOOK_S)
    checked(one, name, int(sum(each["readings"] for each in done)))
    seen, taken = marks.seen(), []
    begin_us = (min(each["began"] for each in done) + WARM_S) * 1e6
    for part, offset, frame in clean(one.kafka):
        if frame.device_id.startswith(f"{name}-"):
            taken += [seen[part, offset] - at / 1e6 for at in frame.times.tolist() if at >= begin_us]
    print(f"end_to_end: {len(taken):,} rows of {fleet:,} devices timed", file=sys.stderr, flush=True)
    for share, value in zip((50, 99), np.percentile(taken, (50, 99)) * 1000, strict=True):
        what = f"{fleet:,} devices, {fleet / every_s:.0f} rows/s: accept to visible row, p{share}"
        yield figure("end_to_end", what, value, "ms")


def load(one: Site, readings: int, limit: float, most: dict[str, float]) -> Iterator[Figure]:
    """Rate, CPU and bytes of so many readings."""
    name, label = f"load{readings}", f"{readings // 1_000_000} M readings"
    devices = configured(one, name, DEVICES)
    rows = share_of(readings, DEVICES * len(NAMES) * TOGETHER) // (DEVICES * len(NAMES))
    topics, tables, cpu_s = one.topic_bytes(), one.table_bytes(), one.cpu_s()
    with watched(one.status["database"], every_s=0.02) as marks:
        done = edges(one, name, devices, rows=rows, together=TOGETHER, start_us=START_US)
        one.settle()
        time.sleep(0.1)
    spent = one.cpu_s()
    spent.subtract(cpu_s)
    spent["edge"] = sum(each["cpu_s"] for each in done)
    accepted = int(sum(each["readings"] for each in done))
    checked(one, name, accepted)
    progress = Stock.of(one.kafka).progress(marks)
    visible = next(at for at, stored in progress if stored == progress[-1][1])
    began = min(each["began"] for each in done)
    most["edge"] = max(most.get("edge", 0.0), *(each["peak_mb"] for each in done))

    def rate(until: str) -> float:
        return accepted / (max(each[until] for each in done) - began)

    yield figure("end_to_end", f"{label}: accepted, on the edges' disks", rate("accepted"), "readings/s")
    yield figure("end_to_end", f"{label}: acknowledged by the broker", rate("acknowledged"), "readings/s")
    yield figure(
        "end_to_end", f"{label}: accept to visible row", accepted / (visible - began), "readings/s", beside=limit
    )
    for part, seconds in sorted(spent.items()):
        yield figure("end_to_end", f"{label}: CPU of {part}", seconds * 1e6 / accepted, "s/million")
    yield figure("end_to_end", f"{label}: CPU of all", sum(spent.values()) * 1e6 / accepted, "s/million")
    yield from of_load("end_to_end", label, one.topic_bytes() - topics, one.table_bytes() - tables, accepted)

"""The stage beside its peers on the standard work, on one broker in one run.

Work: decode, range check, slope and offset, ten-minute windows; calibrated records and closed windows out. W1 is one
reading a record, W2 ten rows of twenty channels. Rates are slopes of the broker's append times on the output topic
between 15 and 95 % of the readings: start and warm-up are left out. CPU is that of the process with its start. What
comes out is read back under `read_committed` and checked: each reading once, values, number of windows. A peer has
LIMIT_S for each work; what it has done by then is measured. Kafka Streams and Quix run exactly once, as we do; plain
Faust and Bytewax do not.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from bench_stack import Figure, figure, own_stack, service, share_of
from bench_stage import SPAN, bare_rate, fill
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from visible import messages

from infra.client import connection
from infra.kafka import jars
from schemas.codec import Codec
from schemas.frames import CleanFrame, WindowFrame
from schemas.topics import PARTITIONS, READINGS_CLEAN, WINDOWS

WINS = """
In rate and CPU nobody wins. In memory others do: in frames Kafka Streams (which is given 512 MB from the start) and the
peers in Python, plain Faust with single readings too. The stage makes arrays of all that waits, up to 20,000 records of
a partition, and keeps their memory for the next. Piles of 1 MB took 360 MB and a fifth more CPU (tried on 2026-11-27),
so it stays so; with what devices send day by day it is 220 MB (section end_to_end).
"""

HERE = Path(__file__).parent / "peers"
VENV = Path(__file__).parents[2] / ".venv-bench"
WORK = {"W1": (1_000, 1, 1, 700_000), "W2": (50, 20, 10, 60_000)}  # devices, channels, rows, records
LIMIT_S = 45
COMMIT_MS = 1_000  # of Kafka Streams: slower at its default of 100 ms
END_S_MAX = 12
"""After the last record: the longest commit interval of a peer, several times."""
JAVA = ["java", "-Xmx1g", "-Xms512m"]
PYTHON_PEERS = {"Quix": "quixstreams", "Bytewax": "bytewax", "Faust": "faust"}


@dataclass
class Ran:
    """What a peer did."""

    readings_per_s: float
    cpu_us: float  # for each reading that came out
    rss_mb: float
    note: str


def run() -> list[Figure]:
    """The stage first, then each peer that can be had here."""
    figures = []
    for work, (devices, channels, rows, records) in WORK.items():
        total = share_of(records, devices)
        with own_stack() as (folder, kafka, _):
            fill(kafka, devices, channels, rows, total)
            limit = bare_rate(kafka, total) * rows * channels
            figures.append(figure("peers", f"{work} bare consume-produce", limit, "readings/s"))
            with service(folder, "streams", "run", TELLTALE_KAFKA=kafka) as pid:
                ours = measured(kafka, work, pid, READINGS_CLEAN, WINDOWS)
            figures += told(work, "Telltale", ours, ours)
            for name, command in peers(folder):
                topics = [f"{name.lower().replace(' ', '-')}-{what}" for what in ("clean", "windows")]
                try:
                    ran = raced(kafka, work, command, topics, folder)
                except RuntimeError as error:  # the others are measured all the same
                    print(f"{work} {name} is left out: {error}", file=sys.stderr, flush=True)
                else:
                    figures += told(work, name, ran, ours)
    return figures


def told(work: str, name: str, ran: Ran, ours: Ran) -> Iterator[Figure]:
    what = f"{work} {name}{ran.note}"
    yield figure("peers", what, ran.readings_per_s, "readings/s", beside=ours.readings_per_s)
    yield figure("peers", f"{work} {name}: CPU, start included", ran.cpu_us, "µs/reading", beside=ours.cpu_us)
    yield figure("peers", f"{work} {name}: memory", ran.rss_mb, "MB", beside=ours.rss_mb)


def peers(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Those that can be had here, with their command but for the broker; the others are told of."""
    if shutil.which("javac") is None:
        print("Kafka Streams is left out: no javac on this machine", file=sys.stderr)
    else:
        class_path = jars.class_path(beside=jars.read_lock((HERE / "kafka_streams.lock").read_text()))
        classes = folder / "classes"
        subprocess.run(
            ["javac", "-cp", class_path, "-d", classes, HERE / "KafkaStreamsPeer.java"], check=True, timeout=120
        )
        yield "Kafka Streams", [*JAVA, "-cp", f"{classes}{os.pathsep}{class_path}", "KafkaStreamsPeer"]
    python = VENV / "bin" / "python"
    for name, package in PYTHON_PEERS.items():
        found = python.exists() and not subprocess.run(
            [python, "-c", f"import {package}"], capture_output=True, check=False
        ).returncode  # fmt: skip
        if found:
            yield name, [str(python), str(HERE / f"{name.lower()}_peer.py")]
        else:
            print(f"{name} is left out: {package} is not in {VENV.name} (make bench sets it up)", file=sys.stderr)


def raced(kafka: str, work: str, command: list[str], topics: list[str], folder: Path) -> Ran:
    """Start a peer, measure it, end it."""
    admin = AdminClient(connection(kafka))
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(16 << 20)}
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config) for topic in topics]).values():
        made.result()
    end_of_each(admin, topics)
    name = topics[0].removesuffix("-clean")
    state = folder / f"{name}-{work}"
    state.mkdir()
    log = folder / f"{name}.log"
    options = [str(COMMIT_MS)] if command[0] == JAVA[0] else []
    with log.open("wb") as out:
        process = subprocess.Popen([*command, kafka, name, *options, str(state)], stdout=out, stderr=out, cwd=folder)
    try:
        return measured(kafka, work, process.pid, *topics)
    except RuntimeError as error:
        raise RuntimeError(f"{name}: {error}\n{log.read_text()[-3000:]}") from None
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measured(kafka: str, work: str, pid: int, clean: str, windows: str) -> Ran:
    """Wait until all is out or the time is over, then read back what came."""
    devices, channels, rows, records = WORK[work]
    total = share_of(records, devices)
    process = psutil.Process(pid)
    admin = AdminClient(connection(kafka))
    rss, until = 0, time.monotonic() + LIMIT_S
    ends = -1
    # The stage makes one record of several: it is done when nothing has been added for a while.
    still_since = time.monotonic()
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError("ended by itself")
        rss = max(rss, process.memory_info().rss)
        now = sum(end_offsets(admin, clean).values())
        if now != ends:
            ends, still_since = now, time.monotonic()
        elif ends > 0 and time.monotonic() - still_since > 2 * COMMIT_MS / 1000 + 1:
            break
        time.sleep(0.2)
    times = process.cpu_times()
    found = read_back(kafka, clean)
    if len(found) == 0:
        raise RuntimeError(f"nothing came out in {LIMIT_S} s")
    readings = int(found[:, 1].sum())
    whole = readings == total * rows * channels
    done = np.cumsum(found[:, 1])
    at = np.interp([share * readings for share in SPAN], done, found[:, 0])
    rate = (SPAN[1] - SPAN[0]) * readings / max(1e-3, at[1] - at[0]) * 1000
    note = "" if whole else f" ({readings / (total * rows * channels):.0%} in {LIMIT_S} s)"
    if whole:
        expected = devices * channels * ((total // devices * rows - 1) // 600)
        closed = count_windows(kafka, windows, expected)
        note = "" if closed == expected else f" ({closed} of {expected} windows)"
    return Ran(rate, (times.user + times.system) * 1e6 / readings, rss / 1e6, note)


def end_of_each(admin: AdminClient, topics: list[str]) -> None:
    """Topics that were just made have no leader for a moment."""
    for left in range(100, -1, -1):
        try:
            for topic in topics:
                end_offsets(admin, topic)
        except KafkaException:
            if not left:
                raise
            time.sleep(0.05)
        else:
            return


def end_offsets(admin: AdminClient, topic: str) -> dict[int, int]:
    wanted = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(PARTITIONS)}
    return {tp.partition: f.result().offset for tp, f in admin.list_offsets(wanted, request_timeout=10).items()}


def read_back(kafka: str, topic: str) -> np.ndarray:
    """(n, 2) append time and readings of each record, in order of time. Raises `RuntimeError` if readings are wrong."""
    codec = Codec()
    found, times = [], {}
    for message in messages(kafka, topic):
        frame = codec.decode_frame(CleanFrame, message.value())
        right = 0.046 * ((frame.logged - 0.2) / 0.05) + 0.243
        if not np.allclose(frame.values, right, rtol=1e-12, atol=0):
            raise RuntimeError(f"{topic}: wrong values of {frame.device_id}")
        times.setdefault(frame.device_id, []).append(frame.times)
        found.append((message.timestamp()[1], frame.values.size))
    for device_id, parts in times.items():
        steps = np.diff(np.sort(np.concatenate(parts)))
        if len(steps) and (steps.min() <= 0 or steps.max() != steps.min()):
            raise RuntimeError(f"{topic}: readings of {device_id} are missing or there twice")
    return np.array(sorted(found), np.float64).reshape(-1, 2)


def count_windows(kafka: str, topic: str, expected: int) -> int:
    """How many windows are closed; the last may come with the peer's last commit."""
    codec, until = Codec(), time.monotonic() + END_S_MAX
    while True:
        count = sum(len(codec.decode_frame(WindowFrame, each.value()).channels) for each in messages(kafka, topic))
        if count >= expected or time.monotonic() > until:
            return count
        time.sleep(1)

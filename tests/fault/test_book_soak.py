"""The fault book's soak: faults drawn at random for `TELLTALE_FAULT_SOAK_S`, in the long form only (1,800 s)."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import psutil
import psycopg
import pytest
from book_devices import CHANNELS, Pusher
from book_pipeline import LINKS, Kafka, Pipeline
from confluent_kafka import Producer
from fix_faultbook import Book
from fix_pipeline import Begin
from fix_stage import make_device
from hostile_wire import FRAMES_CORPUS
from own_servers import OwnDatabase

from infra.client import connection
from schemas.topics import READINGS_RAW

pytestmark = [pytest.mark.integration, pytest.mark.fault]

SEED = 20_161_222
GROWTH_MAX, GROWTH_MB_MIN = 0.2, 40.0
"""What a process may grow from the first third to the last: caches fill. A leak of a reading each would be above it in
half an hour."""


@dataclass
class Sizes:
    """Of the processes that live through it, look by look."""

    rss_mb: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    threads: dict[str, list[int]] = field(default_factory=dict)

    def look(self, pipeline: Pipeline) -> None:
        pids = {"edge": os.getpid(), **{name: service.pid for name, service in pipeline.running.items()}}
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                size, files, threads = process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()
            except psutil.Error:  # it has just ended
                continue
            who = f"{name} {pid}"
            self.rss_mb.setdefault(who, []).append(size)
            self.files.setdefault(who, []).append(files)
            self.threads.setdefault(who, []).append(threads)

    def thirds(self, what: dict[str, list[float]] | dict[str, list[int]]) -> dict[str, tuple[float, float]]:
        """Medians of the second and the last third: the first is warming up."""
        return {
            who: (median(seen[len(seen) // 3 : 2 * len(seen) // 3]), median(seen[2 * len(seen) // 3 :]))
            for who, seen in what.items()
            if len(seen) >= 9
        }

    def assert_flat(self) -> None:
        for who, (before, after) in self.thirds(self.rss_mb).items():
            assert after < max(before * (1 + GROWTH_MAX), before + GROWTH_MB_MIN), f"{who}: {before} to {after} MB"
        for what in (self.files, self.threads):
            for who, (before, after) in self.thirds(what).items():
                assert after <= before + 5, f"{who}: {before} to {after}"


@contextmanager
def held(statement: str, pipeline: Pipeline) -> Iterator[None]:
    """What a person at psql does, and forgets for a while."""
    with psycopg.connect(pipeline.database.dsn) as person:
        person.execute(statement.encode())
        yield
        person.rollback()


def neighbours_trouble(pipeline: Pipeline, pusher: Pusher) -> dict[str, Callable[[], None]]:
    """Faults that the services live through; each does its harm and undoes it."""
    kafka, database, line = pipeline.kafka, pipeline.database, pipeline.kafka.line
    hostile = Producer({**connection(kafka.address), "message.max.bytes": 4 << 20})

    def cut(times: int) -> None:
        for _ in range(times):
            line.refuses = True
            line.cut()
            time.sleep(1)
            line.heal()
            time.sleep(1)

    def bad(**about: float) -> None:
        for name, value in about.items():
            setattr(line, name, value)
        time.sleep(4)
        line.heal()

    def freeze() -> None:
        database.freeze()
        time.sleep(3)
        database.thaw()

    def lock() -> None:
        with held("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE", pipeline):
            time.sleep(3)

    def end_sessions() -> None:
        database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
            " backend_type = 'client backend'"
        )

    def restart(what: Kafka | OwnDatabase) -> None:
        what.kill()
        what.start()

    def poison() -> None:
        for entry in FRAMES_CORPUS:
            hostile.produce(READINGS_RAW, entry.data, key=b"hostile")
        assert hostile.flush(60) == 0

    def silence() -> None:
        pipeline.load.mute(pipeline.steady[0])
        time.sleep(4)
        pipeline.load.unmute(pipeline.steady[0])

    def edge() -> None:
        pusher.kill()
        pusher.start()

    return {
        "line cut": lambda: cut(1),
        "line flapping": lambda: cut(3),
        **{f"link of {name}": partial(bad, **about) for name, (_, about) in LINKS.items() if about},
        "database frozen": freeze,
        "database killed": lambda: restart(database),
        "table locked": lock,
        "database's sessions ended": end_sessions,
        "broker killed": lambda: restart(kafka),
        "poison of every kind": poison,
        "a silent device": silence,
        "edge killed": edge,
    }


def services_trouble(pipeline: Pipeline) -> dict[str, Callable[[], None]]:
    """Faults that end services."""

    def frozen(name: str) -> None:
        victim = pipeline.running[name]
        victim.freeze()
        time.sleep(8)  # its session is over, and nobody else is there: it is woken, and ends or goes on
        victim.wake()

    def restarted(name: str) -> None:
        pipeline.take_away(name, kindly=True)
        pipeline.start(name)

    return {
        "sink killed": lambda: pipeline.kill("sink"),
        "worker killed": lambda: pipeline.kill("streams"),
        "worker frozen past its session": lambda: frozen("streams"),
        "sink frozen past its session": lambda: frozen("sink"),
        "worker restarted": lambda: restarted("streams"),
        "sink restarted": lambda: restarted("sink"),
    }


@pytest.mark.usefixtures("long_form")
def test_soak(pipeline: Pipeline, begin: Begin, book: Book) -> None:
    length_s = book.soak_s
    dice, done, sizes, lags = random.Random(SEED), Counter[str](), Sizes(), list[float]()
    pipeline.configure(make_device("soaked", len(CHANNELS)))
    pusher = Pusher(pipeline.kafka.line.address, pipeline.folder, "soaked")
    of_neighbours, of_services = neighbours_trouble(pipeline, pusher), services_trouble(pipeline)
    scenario = begin(*pipeline.steady, "soaked")
    pusher.start()
    scenario.fault()
    until = time.monotonic() + length_s
    while time.monotonic() < until:
        lags.append(scenario.flows())
        sizes.look(pipeline)
        left = until - time.monotonic()
        # The second half leaves the services alone, so that their sizes can be compared.
        faults = of_neighbours | of_services if left > length_s / 2 else of_neighbours
        drawn = dice.choice(list(faults))
        book.say(f"{left:5.0f} s left, live data stored after {lags[-1]:.1f} s; {drawn}")
        faults[drawn]()
        done[drawn] += 1
        for _ in range(3):
            time.sleep(1)
            sizes.look(pipeline)
    scenario.mended()
    pusher.kill()
    scenario.ends["soaked"] = pusher.drained()
    scenario.recovered()
    scenario.all_is_over()
    if book.is_long:
        sizes.assert_flat()
    mid = len(lags) // 2
    grown = ", ".join(
        f"{who.partition(' ')[0]} {before:.0f} to {after:.0f} MB"
        for who, (before, after) in sizes.thirds(sizes.rss_mb).items()
    )
    scenario.row(
        "soak with random faults",
        f"{length_s:.0f} s: {', '.join(f'{count} x {name}' for name, count in sorted(done.items()))}. Live data was "
        f"stored after {median(lags[:mid] or lags):.1f} s (median, first half) and {median(lags[mid:]):.1f} s (second)"
        + (f"; {grown}; file handles and threads level" if grown else ""),
        seed=SEED,
    )

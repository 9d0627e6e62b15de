"""From the edge's accept to the visible row at a gentle rate, beside the broker alone, in one run."""

import threading
import time
from pathlib import Path

import numpy as np
import psycopg
from bench_stack import Figure, figure, own_stack, service
from bench_stage import device
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.client import connection, reader
from infra.offsets import span
from infra.postgres import server
from producers.edge import Edge
from producers.settings import EdgeSettings
from producers.stations.devices import publish

READINGS, PER_S = 300, 20
LOOK_S = 0.002


def broker_alone(kafka: str) -> list[float]:
    """Produce to consume, seconds; one record at a time."""
    consumer = Consumer({**reader(kafka, group="bench"), "fetch.wait.max.ms": 500, "auto.offset.reset": "latest"})
    tp = TopicPartition("readings.rejected", 0)
    consumer.assign([TopicPartition(tp.topic, 0, span(consumer, tp.topic, 0)[1])])
    producer = Producer({**connection(kafka), "acks": "all", "linger.ms": 0})
    taken = []
    while len(taken) < READINGS:
        begin = time.perf_counter()
        producer.produce(tp.topic, b"x", partition=0)
        producer.poll(0)
        while True:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                break
        taken.append(time.perf_counter() - begin)
    consumer.close()
    return taken[50:]  # after both have warmed up


def accept_to_row(kafka: str, dsn: str, folder: Path) -> list[float]:
    """Seconds from accept to visible; a reading's time is when it was accepted."""
    seen: dict[int, float] = {}
    done = threading.Event()

    def look() -> None:
        last = 0
        with psycopg.connect(dsn, autocommit=True) as connection_:
            while not done.is_set():
                rows = connection_.execute(
                    "select (extract(epoch from time) * 1000000)::bigint from readings"
                    " where time > 'epoch'::timestamptz + %s * interval '1 microsecond'",
                    (last,),
                ).fetchall()
                now = time.time()
                for (at,) in rows:
                    seen[at] = now
                    last = max(last, at)
                time.sleep(LOOK_S)

    looking = threading.Thread(target=look)
    looking.start()
    with Edge(EdgeSettings(device_id="logger-0", kafka=kafka, spool=folder / "spool")) as edge:
        sent = []
        for _ in range(READINGS):
            now_us = time.time_ns() // 1000
            edge.accept(now_us, "ch00", 8.0)
            sent.append(now_us)
            time.sleep(1 / PER_S)
        until = time.monotonic() + 30
        while len(seen) < READINGS and time.monotonic() < until:
            time.sleep(0.05)
    done.set()
    looking.join()
    if len(seen) < READINGS:
        raise RuntimeError(f"{len(seen)} of {READINGS} readings were seen")
    return [seen[at] - at / 1e6 for at in sent][50:]


def run() -> list[Figure]:
    """p50 and p99 of both."""
    with own_stack() as (folder, kafka, dsn):
        server.ensure_database(dsn, "latency")
        own = dsn.rpartition("/")[0] + "/latency"
        publish(kafka, [device("logger-0", ("ch00",))])
        addresses = {"TELLTALE_KAFKA": kafka, "TELLTALE_DATABASE": own}
        bare = np.percentile(broker_alone(kafka), [50, 99]) * 1000
        with service(folder, "streams", "run", **addresses), service(folder, "sink", "run", **addresses):
            ours = np.percentile(accept_to_row(kafka, own, folder), [50, 99]) * 1000
    figures = []
    for name, of_bare, of_ours in zip(("p50", "p99"), bare, ours, strict=True):
        figures += [
            figure("latency", f"broker alone, produce to consume, {name}", of_bare, "ms"),
            figure("latency", f"edge accept to visible row at {PER_S}/s, {name}", of_ours, "ms"),
        ]
    return figures

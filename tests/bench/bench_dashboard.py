"""What the dashboard costs: server time for each update, lag of what is pushed, a page, a long series, memory.

The live topic is written directly, one reading a second of every sensor; clients are plain sockets, since browsers on
the same cores would measure themselves. Only the plot is drawn by one: from the click to the picture.
"""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import chromium
import httpx
import numpy as np
import psutil
import psycopg
from bench_stack import Figure, figure, own_stack, service
from bench_stage import device
from confluent_kafka import Producer
from websockets.asyncio.client import ClientConnection, connect

from dashboard.web.access import SESSION_COOKIE, hashed, new_secret
from infra import ports
from infra.client import connection
from infra.postgres import server
from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from schemas.codec import Codec
from schemas.frames import CleanFrame
from schemas.keys import PARTITIONER
from schemas.topics import ALARMS, DEVICES, READINGS_CLEAN
from sinks.timescale import schema

CHANNELS = tuple(f"ch{number:02}" for number in range(20))
MEASURED_S = 10.0
FIRST_UPDATE_S_MAX = 120.0
LONG_ROWS = 315_648  # six years of ten minutes
IDLE_CLIENTS = 50
CLICKS = 5
# Milliseconds from the click on "all" to the frame that shows the line, and how many readings it was made of.
CLICKED = """async () => {
  const before = window.telltale.plot;
  const began = performance.now();
  document.querySelector("[data-span='0']").click();
  while (window.telltale.plot === before) await new Promise((then) => setTimeout(then));
  await new Promise((then) => requestAnimationFrame(() => setTimeout(then)));
  return [performance.now() - began, window.telltale.plot.rows];
}"""


def percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


class Feeder:
    """Writes one reading a second of every sensor, spread over the second."""

    def __init__(self, kafka: str, devices: int) -> None:
        self.producer = Producer({**connection(kafka), "partitioner": PARTITIONER, "linger.ms": 20})
        self._codec, self._devices = Codec(), devices
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def configure(self) -> None:
        for number in range(self._devices):
            made = device(f"logger-{number}", CHANNELS)
            self.producer.produce(DEVICES, key=made.device_id.encode(), value=self._codec.encode(made))
        self.producer.flush(30)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        chance, ones = np.random.default_rng(1), np.ones((1, len(CHANNELS)), np.int64)
        while not self._stop.is_set():
            began = time.monotonic()
            for number in range(self._devices):
                values = chance.normal(8, 2, (1, len(CHANNELS)))
                now = np.array([time.time_ns() // 1000])
                frame = CleanFrame(f"logger-{number}", 0, now, CHANNELS, values, values, ones, ones * 0)
                self.producer.produce(READINGS_CLEAN, key=frame.device_id.encode(), value=self._codec.encode(frame))
                if number % 10 == 9:
                    self.producer.poll(0)
                    self._stop.wait(max(0.0, began + (number + 1) / self._devices - time.monotonic()))
            self._stop.wait(max(0.0, began + 1 - time.monotonic()))


class Client:
    """A page without a browser: how late what came was, and how far apart."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self.gaps_s: list[float] = []
        self.events: dict[str, float] = {}
        self.bytes = 0

    async def listen(self, socket: ClientConnection) -> None:
        last = 0.0
        async for message in socket:
            now = time.time()
            told = json.loads(message)
            self.bytes += len(message)
            if told["t"] == "d":
                self.lags_ms.append(1000 * now - told["now"])
                if last:
                    self.gaps_s.append(now - last)
                last = now
            for alarm in told.get("alarms", ()) if told["t"] == "e" else ():
                self.events.setdefault(alarm["id"], now)


def session(dsn: str) -> str:
    """A signed-in administrator's cookie."""
    secret = new_secret()
    with psycopg.connect(dsn, autocommit=True) as one:
        row = one.execute(
            "INSERT INTO users (name, role) VALUES (%s, 'admin') RETURNING user_id", (secret[:9],)
        ).fetchone()
        assert row is not None
        one.execute(
            "INSERT INTO sessions (session_hash, user_id, csrf, expires) VALUES (%s, %s, 'token', %s)",
            (hashed(secret), row[0], datetime.now(UTC) + timedelta(hours=1)),
        )
    return secret


@contextmanager
def site(kafka: str, server_dsn: str, folder: Path, devices: int) -> Iterator[tuple[str, str, str, psutil.Process]]:
    """Address, cookie, database and process of a dashboard over so many devices of twenty sensors that measure."""
    name, port = f"bench_{devices}", ports.free()
    server.ensure_database(server_dsn, name)
    dsn = server_dsn.rpartition("/")[0] + f"/{name}"
    schema.migrate(dsn)
    feeder = Feeder(kafka, devices)
    feeder.configure()
    env = {"TELLTALE_KAFKA": kafka, "TELLTALE_DATABASE": dsn, "TELLTALE_DIR": str(folder / name)}
    (folder / name).mkdir()
    with service(folder / name, "dashboard", "run", "--port", str(port), **env) as pid:
        feeder.start()
        try:
            yield f"127.0.0.1:{port}", session(dsn), dsn, psutil.Process(pid)
        finally:
            feeder.stop()


@asynccontextmanager
async def clients(address: str, cookie: str, count: int) -> AsyncIterator[list[Client]]:
    """So many open status pages, each after its first picture."""
    found = [Client() for _ in range(count)]
    headers = {"Cookie": f"{SESSION_COOKIE}={cookie}"}
    async with contextlib.AsyncExitStack() as opened:
        tasks = []
        for each in found:
            socket = await opened.enter_async_context(
                connect(
                    f"ws://{address}/live?what=all",
                    additional_headers=headers,
                    origin=f"http://{address}",  # type: ignore[arg-type]
                    max_size=None,
                    compression=None,
                )
            )
            await socket.recv()
            tasks.append(asyncio.create_task(each.listen(socket)))
        yield found
        for task in tasks:
            task.cancel()


async def flowing(pages: list[Client]) -> None:
    """Until updates reach all pages: a dashboard that has just started is still reading what was."""
    async with asyncio.timeout(FIRST_UPDATE_S_MAX):
        while not all(each.lags_ms for each in pages):  # noqa: ASYNC110 - a figure rings no bell
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)


async def updates(address: str, cookie: str, process: psutil.Process, sensors: int, count: int) -> list[Figure]:
    what = f"{sensors:,} sensors, {count} pages: "
    async with clients(address, cookie, count) as there:
        await flowing(there)
        for each in there:
            each.lags_ms.clear()
            each.gaps_s.clear()
            each.bytes = 0
        before = process.cpu_times()
        await asyncio.sleep(MEASURED_S)
        after = process.cpu_times()
        cpu_s = after.user + after.system - before.user - before.system
        lags = [lag for each in there for lag in each.lags_ms]
        gaps = [gap for each in there for gap in each.gaps_s]
        ticks = max(1, len(there[0].lags_ms))
        size = there[0].bytes / ticks
    return [
        figure("dashboard", what + "server CPU for an update", 1000 * cpu_s / ticks, "ms"),
        figure("dashboard", what + "push lag p95", percentile(lags, 95), "ms", beside=250),
        figure("dashboard", what + "longest gap between updates", max(gaps, default=0.0), "s"),
        figure("dashboard", what + "an update", size / 1000, "kB"),
    ]


async def alarms(kafka: str, address: str, cookie: str) -> list[Figure]:
    """From the event's append to the page's message."""
    producer = Producer({**connection(kafka), "acks": "all", "linger.ms": 0})
    sent = {}
    async with clients(address, cookie, 10) as there:
        await asyncio.sleep(1)
        for number in range(30):
            alarm = Alarm(
                alarm_id=f"bench-{number}",
                rule="device_silent",
                source=f"device/logger-{number}",
                device_id=f"logger-{number}",
                station_id="bench",
                severity=Severity.MAJOR,
                state=AlarmState.RAISED,
                reason="silence",
                onset=datetime.now(UTC),
                message="nothing heard",
            )
            event = alarm_event(alarm, time=datetime.now(UTC), speaker="bench")
            sent[alarm.alarm_id] = time.time()
            producer.produce(ALARMS, key=alarm.alarm_id.encode(), value=event.model_dump_json().encode())
            producer.flush(10)
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        lags = [1000 * (at - sent[name]) for each in there for name, at in each.events.items() if name in sent]
    return [
        figure("dashboard", "an alarm event to 10 open pages, p50", percentile(lags, 50), "ms"),
        figure("dashboard", "an alarm event to 10 open pages, p95", percentile(lags, 95), "ms", beside=1000),
    ]


async def memory(address: str, cookie: str, process: psutil.Process) -> list[Figure]:
    before = process.memory_info().rss
    async with clients(address, cookie, IDLE_CLIENTS):
        await asyncio.sleep(4)
        with_pages = process.memory_info().rss
    headers = {"Cookie": f"{SESSION_COOKIE}={cookie}"}
    stuck = await connect(
        f"ws://{address}/live?what=all",
        additional_headers=headers,
        origin=f"http://{address}",  # type: ignore[arg-type]
        max_queue=1,
        max_size=None,
        compression=None,
    )
    await asyncio.sleep(20)
    with_stuck = process.memory_info().rss
    await stuck.close()
    return [
        figure("dashboard", "server memory, no page", before / 1e6, "MB"),
        figure("dashboard", f"server memory, {IDLE_CLIENTS} pages", with_pages / 1e6, "MB"),
        figure("dashboard", "server memory, a page that has not read for 20 s", with_stuck / 1e6, "MB"),
    ]


def pages(address: str, cookie: str, dsn: str) -> Iterator[Figure]:
    with httpx.Client(base_url=f"http://{address}", cookies={SESSION_COOKIE: cookie}) as client:
        client.get("/status")
        began = time.perf_counter()
        answer = client.get("/status")
        yield figure("dashboard", "the status page", 1000 * (time.perf_counter() - began), "ms")
        static = answer.text.partition('data-static="')[2].partition('"')[0]
        files = [f"{static}/{name}" for name in ("style.css", "theme.js", "app.js", "live.js", "status.js")]
        sizes = [answer.num_bytes_downloaded]
        sizes += [client.get(path).num_bytes_downloaded for path in (*files, "/static/lib/htmx.js")]
        yield figure("dashboard", "the status page with all its files, compressed", sum(sizes) / 1000, "kB")
        number = fill(dsn)
        period = {"from": "2015-01-01T00:00:00Z", "to": "2021-02-01T00:00:00Z"}
        for width, words in ((2600, "for a screen"), (20_000, "in 20,000 buckets")):
            asked = {**period, "width": str(width), "format": "f64"}
            began = time.perf_counter()
            found = client.get(f"/api/v1/sensors/{number}/series", params=asked).raise_for_status()
            taken = time.perf_counter() - began
            assert found.headers["telltale-rows"] == str(LONG_ROWS)
            yield figure("dashboard", f"{LONG_ROWS:,} readings {words}, at the server", 1000 * taken, "ms")


def drawn(address: str, cookie: str) -> Iterator[Figure]:
    """Six years in a browser of 1440 pixels, after a week of them was seen: the first click, and the median of all."""
    if not chromium.found():
        print("no browser: what it draws is left out", file=sys.stderr)
        return
    with chromium.launched() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=f"http://{address}")
        context.add_cookies([{"name": SESSION_COOKIE, "value": cookie, "url": f"http://{address}"}])
        page = context.new_page()
        taken_ms = []
        for _ in range(CLICKS):
            page.goto("/plot?sensor=long/c")
            while not page.evaluate("Boolean(window.telltale?.plot)"):
                time.sleep(0.05)
            ms, rows = page.evaluate(CLICKED)
            assert rows == LONG_ROWS
            taken_ms.append(ms)
        what = f"{LONG_ROWS:,} readings from click to drawn"
        yield figure("dashboard", f"{what}, first", taken_ms[0], "ms", beside=600)
        yield figure("dashboard", f"{what}, median", percentile(taken_ms, 50), "ms", beside=600)


def fill(dsn: str) -> int:
    """Six years of one sensor."""
    with psycopg.connect(dsn, autocommit=True) as one:
        row = one.execute(
            "INSERT INTO sensors (device_id, channel, unit) VALUES ('long', 'c', 'm/s') RETURNING sensor_id"
        ).fetchone()
        assert row is not None
        one.execute(
            "DO $$ DECLARE m timestamptz := '2015-01-01'; BEGIN WHILE m < '2021-02-01' LOOP EXECUTE format("
            "'CREATE TABLE IF NOT EXISTS %I PARTITION OF readings FOR VALUES FROM (%L) TO (%L)',"
            " 'readings_bench_' || to_char(m, 'YYYYMM'), m, m + interval '1 month'); m := m + interval '1 month';"
            " END LOOP; END $$"
        )
        one.execute(
            "INSERT INTO readings SELECT %s, '2015-01-01 00:00+00'::timestamptz + n * interval '10 min', v, v, 1, 0"
            " FROM generate_series(0, %s) n, LATERAL (SELECT 8 + 4 * sin(n / 144.0) + random()) AS w (v)",
            (row[0], LONG_ROWS - 1),
        )
        one.execute("ANALYZE readings")
        return int(row[0])


def run() -> Iterator[Figure]:
    with own_stack() as (folder, kafka, server_dsn):
        for devices in (50, 500):
            with site(kafka, server_dsn, folder, devices) as (address, cookie, dsn, process):
                for count in (1, 10):
                    yield from asyncio.run(updates(address, cookie, process, devices * len(CHANNELS), count))
                if devices == 50:
                    yield from asyncio.run(alarms(kafka, address, cookie))
                    yield from pages(address, cookie, dsn)
                    yield from drawn(address, cookie)
                    yield from asyncio.run(memory(address, cookie, process))

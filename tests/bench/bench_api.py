"""The API beside the bare query: newest values, a day, six years as a plot and as Arrow; and one person beside fifty
greedy notebooks.

Requests go over one connection that stays open, one after another, so requests/s is what one client sees; p99 is of the
same requests. The notebooks live in a process of their own and throw away what they get; each has its own token.
The last figure is what the product promises: the person's p99 beside them, as a multiple of his idle one.
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from bench_stack import Figure, database, figure, own_folder, service

from dashboard.web.access import SESSION_COOKIE, Scope, hashed, new_secret
from dashboard.web.tokens import create
from infra import ports
from infra.postgres import server
from sinks.timescale import schema
from sinks.timescale.months import Months

WINS = """
The bare query wins: it knows no token, no rights, no limits of a client, and makes no JSON. Of a large answer the
database's part is the larger one, and the API comes near.
"""

SENSORS, YEARS = 4, range(2019, 2025)
NOTEBOOKS = 50
SECONDS = 4.0
"""Of each measurement: some thousand small requests."""
PERSON_S, PERSON_EVERY_S = 12.0, 0.05
BEGIN, END = "2019-01-01T00:00Z", "2025-01-01T00:00Z"
DAY = "from=2022-06-01T00:00Z&to=2022-06-02T00:00Z"

FILL = """
INSERT INTO stations (station_id, name) VALUES ('hill', 'Hill');
INSERT INTO devices (device_id, station_id, name, interval_s, loggers, configured_at, configured_by)
VALUES ('mast', 'hill', 'Mast', 600, '[]', now(), 'bench');
INSERT INTO sensors (sensor_id, device_id, channel, quantity, unit, statistic)
SELECT n, 'mast', 'Spd' || n, 'wind_speed', 'm/s', 'avg' FROM generate_series(1, {sensors}) n;
INSERT INTO readings SELECT s, t, v, v, 1, 0
FROM generate_series(1, {sensors}) s,
  generate_series('{begin}'::timestamptz, '{end}'::timestamptz - interval '1 s', interval '10 min') t,
  LATERAL (SELECT 8 + 5 * sin(extract(epoch FROM t) / 86400 * 6.28) + random() * s AS v) x;
ANALYZE;
"""
LATEST = "SELECT * FROM sensors_now WHERE device_id = 'mast'"
ROWS = """SELECT time, logged, value, quality, tests FROM readings
WHERE sensor_id = 1 AND time >= %s AND time < %s ORDER BY time"""
LINE = "SELECT time, value FROM readings WHERE sensor_id = 1 AND time >= %s AND time < %s ORDER BY time"


def run() -> Iterator[Figure]:
    with own_folder() as folder, database(folder) as admin:
        dsn = _filled(admin)
        port = ports.free()
        env = {
            "TELLTALE_DATABASE": dsn,
            "TELLTALE_KAFKA": "127.0.0.1:1",  # nothing here asks it
            "TELLTALE_DIR": str(folder),
            "TELLTALE_DASHBOARD_PORT": str(port),
            "TELLTALE_DASHBOARD_REQUESTS_PER_S": "1000000",
        }
        with service(folder, "dashboard", "run", **env):
            yield from _figures(dsn, port)


def _filled(admin: str) -> str:
    server.ensure_database(admin, "bench_api")
    dsn = admin.rpartition("/")[0] + "/bench_api"
    schema.migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if "plain" in schema.flavours(connection, schema.applied(connection)):
            Months().ensure(connection, {f"{year}-{month:02}" for year in YEARS for month in range(1, 13)})
        connection.execute(FILL.format(sensors=SENSORS, begin=BEGIN, end=END).encode())
    return dsn


def _figures(dsn: str, port: int) -> Iterator[Figure]:
    token = _token(dsn)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=3) as connection, _client(port, token) as get:

        def query(statement: str, *arguments: str) -> Callable[[], int]:
            return lambda: len(connection.execute(statement.encode(), arguments, binary=True).fetchall())

        day = ("2022-06-01T00:00Z", "2022-06-02T00:00Z")
        for what, path, bare in (
            ("newest values of a device", "/api/v1/latest?device=mast", query(LATEST)),
            ("one day of a sensor, JSON", f"/api/v1/readings?sensor=1&{DAY}", query(ROWS, *day)),
        ):
            beside, _ = _rate(bare)
            rate, p99 = _rate(lambda path=path: get(path))
            yield figure("api", f"{what}, beside the query", rate, "requests/s", beside=beside)
            yield figure("api", f"{what}, p99", p99, "ms")
        whole = (BEGIN, END)
        for what, path, bare in (
            ("six years as a plot", "/api/v1/sensors/1/series?width=2000&format=f64", query(LINE, *whole)),
            (
                "six years raw, Arrow",
                f"/api/v1/readings?sensor=1&format=arrow&from={BEGIN}&to={END}",
                query(ROWS, *whole),
            ),
        ):
            beside, _ = _rate(bare)
            rate, p99 = _rate(lambda path=path: get(path))
            yield figure("api", f"{what}, beside the query", 1 / rate, "s", beside=1 / beside)
    yield from _crowd(dsn, port)


def _crowd(dsn: str, port: int) -> Iterator[Figure]:
    session = _session(dsn)
    idle = _person(port, session)
    tokens = [_token(dsn) for _ in range(NOTEBOOKS)]
    taken = multiprocessing.get_context("spawn").Value("q", 0)
    greedy = multiprocessing.get_context("spawn").Process(target=_notebooks, args=(port, tokens, taken), daemon=True)
    greedy.start()
    try:
        until = time.perf_counter() + 60
        while taken.value < 5e6 and time.perf_counter() < until:  # they have begun
            time.sleep(0.1)
        before, began = taken.value, time.perf_counter()
        busy = _person(port, session)
        rate = (taken.value - before) / (time.perf_counter() - began)
    finally:
        greedy.terminate()
        greedy.join(10)
    yield figure("api", "person's p50, alone", idle[0], "ms")
    yield figure("api", "person's p99, alone", idle[1], "ms")
    yield figure("api", f"person's p50, beside {NOTEBOOKS} notebooks", busy[0], "ms", beside=idle[0])
    yield figure("api", f"person's p99, beside {NOTEBOOKS} notebooks", busy[1], "ms", beside=idle[1])
    yield figure("api", "what the notebooks got meanwhile", rate / 1e6, "MB/s")


def _rate(once: Callable[[], int]) -> tuple[float, float]:
    """How often a second, and the 99th percentile in milliseconds."""
    once()
    times = []
    until = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < until:
        once()
        times.append(time.perf_counter() - began)
    return len(times) / sum(times), float(np.percentile(times, 99)) * 1000


@contextmanager
def _client(port: int, token: str) -> Iterator[Callable[[str], int]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(path: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("GET", path, headers=headers)
        try:
            answer = connection.getresponse()
        except http.client.RemoteDisconnected:  # it was idle for seconds while the bare query was measured
            connection.close()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(content.decode())
        return len(content)

    yield get
    connection.close()


def _token(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        expires = datetime.now(UTC) + timedelta(hours=1)
        return create(connection, name="bench", scopes=[Scope.READ], expires=expires, who="bench")


def _session(dsn: str) -> str:
    secret = new_secret()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO users (name, role) VALUES ('bench', 'viewer')")
        connection.execute(
            "INSERT INTO sessions (session_hash, user_id, csrf, expires) "
            "SELECT %s, user_id, '', now() + interval '1 hour' FROM users",
            (hashed(secret),),
        )
    return secret


def _person(port: int, session: str) -> tuple[float, float]:
    """Somebody who looks at newest values and at a week's plot, every so often: p50 and p99 in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    paths = ["/api/v1/latest?device=mast", "/api/v1/sensors/1/series?from=2022-06-01T00:00Z&to=2022-06-08T00:00Z"]
    times = []
    until = time.perf_counter() + PERSON_S
    while (began := time.perf_counter()) < until:
        connection.request("GET", paths[len(times) % 2], headers={"Cookie": f"{SESSION_COOKIE}={session}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        answer.read()
        times.append(time.perf_counter() - began)
        time.sleep(PERSON_EVERY_S)
    connection.close()
    return float(np.percentile(times, 50)) * 1000, float(np.percentile(times, 99)) * 1000


def _notebooks(port: int, tokens: list[str], taken: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    """Each asks for six years again and again, as quickly as it is let."""

    async def one(token: str) -> None:
        path = f"/api/v1/readings?sensor=1&format=arrow&from={BEGIN}&to={END}"
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            while piece := await reader.read(1 << 18):
                taken.value += len(piece)
            writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(token) for token in tokens))

    os.nice(5)  # they stand for other machines: their clients' work is not the server's
    asyncio.run(all_of_them())


if __name__ == "__main__":
    for each in run():
        print(json.dumps(each.__dict__))

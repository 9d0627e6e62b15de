"""The web service as users meet it: a real server on loopback over a real database with a small mast in it."""

import asyncio
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from psycopg import sql

from dashboard.api import feature as api
from dashboard.sensorthings import routes as sensorthings
from dashboard.web import tokens
from dashboard.web.access import SESSION_COOKIE, Role, Scope, hashed, new_secret
from dashboard.web.app import HEALTH, create_app
from dashboard.web.feature import Feature
from dashboard.web.running import Server
from dashboard.web.settings import WebSettings
from infra import ports
from infra.postgres import server
from sinks.timescale import schema
from sinks.timescale.months import Months

MAST = "mast-7"
CHANNELS = ("Spd80", "Dir78", "Tmp5")
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 2 * 31 * 144
"""January and February, every ten minutes."""

SEED = """
INSERT INTO stations (station_id, name, latitude_deg, longitude_deg, elevation_m)
VALUES ('hill', 'Hill', 52.1, 4.2, 3.5);
INSERT INTO devices (device_id, station_id, name, interval_s, loggers, configured_at, configured_by)
VALUES ('mast-7', 'hill', 'Mast 7', 600, '[]', '2024-01-01 00:00Z', 'tests'),
       ('mast-8', 'hill', 'Mast 8', 600, '[]', '2024-01-01 00:00Z', 'tests');
INSERT INTO sensors (sensor_id, device_id, channel, point, quantity, unit, statistic, height_m)
VALUES (1, 'mast-7', 'Spd80', 'cup80', 'wind_speed', 'm/s', 'avg', 80),
       (2, 'mast-7', 'Dir78', 'vane78', 'wind_direction', 'deg', 'avg', 78),
       (3, 'mast-7', 'Tmp5', 'thermo5', 'air_temperature', 'deg_C', 'avg', 5),
       (4, 'mast-8', 'Spd80', 'cup80', 'wind_speed', 'm/s', 'avg', 80);
SELECT setval(pg_get_serial_sequence('sensors', 'sensor_id'), 100);
INSERT INTO calibrations (sensor_id, place, slope, "offset", logger_slope, logger_offset, serial)
VALUES (1, 0, 0.046, 0.27, 1, 0, '4711');
-- The value follows from sensor and place; every 100th has failed, every 1000th is missing.
INSERT INTO readings
SELECT s, '2024-01-01 00:00Z'::timestamptz + n * interval '10 min', v,
  CASE WHEN n % 1000 = 999 THEN 'NaN' ELSE v / 2 END,
  CASE WHEN n % 1000 = 999 THEN 9 WHEN n % 100 = 50 THEN 4 ELSE 1 END, CASE WHEN n % 100 = 50 THEN 1 ELSE 0 END
FROM generate_series(1, 3) s, generate_series(0, {rows} - 1) n, LATERAL (SELECT (n % 300 + s)::float8 AS v) x;
INSERT INTO windows
SELECT 1, 600, '2024-01-01 00:00Z'::timestamptz + n * interval '10 min', 0, 0, 10, 10, 0, 0, 0, n, 0.5, 1, 2
FROM generate_series(0, 9) n;
INSERT INTO heartbeats
SELECT 'mast-7', t, t, 'spool', t, '0.1', 5, 0, 0, NULL, 5, 5, 0, 0, 1000000, 0.01, true, '[]'
FROM generate_series('2024-01-01 00:00Z'::timestamptz, '2024-01-01 04:00Z', interval '1 min') t;
INSERT INTO alarms SELECT 'alarm-' || n, 'silence', 'device/mast-7', 'mast-7', 'hill', 'major',
  CASE WHEN n % 3 = 0 THEN 'raised' ELSE 'cleared' END, 'no_data', t, NULL, 600, 's', 'mast-7 is silent', false, t
FROM generate_series(1, 12) n, LATERAL (SELECT '2024-01-01 00:00Z'::timestamptz + n * interval '1 hour' AS t) x;
INSERT INTO alarm_events SELECT alarm_id || '/raised', alarm_id, 'raised', time,
  jsonb_build_object('specversion', '1.0', 'id', alarm_id || '/raised', 'source', 'telltale/tests', 'type',
    'telltale.alarm.raised', 'subject', source, 'time', time, 'datacontenttype', 'application/json', 'data',
    to_jsonb(alarms) - 'time') FROM alarms;
INSERT INTO imports (sha256, name, state, rows, readings, sent, time)
SELECT encode(sha256(n::text::bytea), 'hex'), 'file' || n || '.dat', 'stored', 10, 20, 10, '2024-01-02 00:00Z'
FROM generate_series(1, 5) n;
INSERT INTO rejected VALUES ('readings.raw', 0, 7, 'mast-9', 'unknown_device', 'mast-9', 3, '2024-01-02 00:00Z', 'x');
INSERT INTO replays (sink, topic, part, generation, stood_at, moved_to, reason, owner)
VALUES ('timescale', 'readings.clean', 0, 1, 10, 0, 'operator', 'tests');
ANALYZE;
"""


WITHOUT_PAGES = (HEALTH, api.FEATURE, sensorthings.FEATURE)


@dataclass(slots=True, kw_only=True)
class Served:
    """A running service. `token` and `session` make what a client needs to be let in."""

    url: str
    dsn: str
    app: Any
    kafka: str | None = None
    folder: Path = Path()
    clients: list[httpx.Client] = field(default_factory=list)

    def token(self, *scopes: Scope, days: float = 1.0, owner: str | None = None) -> str:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return tokens.create(
                connection,
                name="tests",
                scopes=list(scopes or (Scope.READ,)),
                expires=datetime.now(UTC) + timedelta(days=days),
                who="tests",
                owner=owner,
            )

    def user(self, role: Role, *, name: str | None = None) -> str:
        """A user of that role; the name."""
        name = name or f"{role}-{secrets.token_hex(4)}"
        self.sql("INSERT INTO users (name, role) VALUES (%s, %s)", name, role)
        return name

    def session(self, user: str) -> dict[str, str]:
        """Signs a user in; the cookie and, under `csrf`, what forms send along."""
        secret, csrf = new_secret(), new_secret()
        self.sql(
            "INSERT INTO sessions (session_hash, user_id, csrf, expires) "
            "SELECT %s, user_id, %s, now() + interval '1 hour' FROM users WHERE name = %s",
            hashed(secret),
            csrf,
            user,
        )
        return {SESSION_COOKIE: secret, "csrf": csrf}

    def client(self, *scopes: Scope, token: str | None = None, **options: Any) -> httpx.Client:
        """With a token; of the scope to read unless others are named."""
        headers = {"Authorization": f"Bearer {token or self.token(*scopes)}"}
        made = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, **options)
        self.clients.append(made)
        return made

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []


def fill(dsn: str) -> None:
    """The mast, into a database that has the schema and nothing else."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        if "plain" in schema.flavours(connection, schema.applied(connection)):
            Months().ensure(connection, {"2024-01", "2024-02", "2024-03"})
        connection.execute(SEED.format(rows=ROWS).encode())


@contextmanager
def new_database(database_server: str) -> Iterator[str]:
    """A database with the schema and the mast in it."""
    name = f"web_{secrets.token_hex(4)}"
    server.ensure_database(database_server, name)
    dsn = database_server.rpartition("/")[0] + f"/{name}"
    schema.migrate(dsn)
    fill(dsn)
    yield dsn
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def serving(
    dsn: str, *, kafka: str | None = None, features: Sequence[Feature] = WITHOUT_PAGES, **settings: Any
) -> Iterator[Served]:
    """The service in a thread of this process."""
    app = create_app(WebSettings(**settings), database=dsn, kafka=kafka, features=features)
    port = ports.free()
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    running = Server(config, app)
    thread = threading.Thread(target=asyncio.run, args=(running.serve(),), daemon=True)
    thread.start()
    served = Served(url=f"http://127.0.0.1:{port}", dsn=dsn, app=app, kafka=kafka)
    try:
        _await_up(served, thread)
        yield served
    finally:
        for client in served.clients:
            client.close()
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the service did not stop"


def _await_up(served: Served, thread: threading.Thread) -> None:
    pause = threading.Event()
    for _ in range(300):
        assert thread.is_alive(), "the service ended"
        try:
            if httpx.get(f"{served.url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        pause.wait(0.1)
    pytest.fail("the service did not come up")


@pytest.fixture(scope="module")
def mast_database(database_server: str) -> Iterator[str]:
    """A module's own database with the mast in it."""
    with new_database(database_server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def served(mast_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service without a broker, for a whole module; `folder/incoming` takes its uploads."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLTALE_DIR", str(folder))
        limits = {"requests_per_s": 10_000, "requests_burst": 10_000, "upload_bytes_max": 5_000_000}
        with serving(mast_database, incoming=folder / "incoming", **limits) as one:
            one.folder = folder
            yield one

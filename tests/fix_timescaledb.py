"""A real TimescaleDB: the official image where a Docker engine answers, else PGlite with TimescaleDB from npm.

PGlite is PostgreSQL in WebAssembly: one database, one backend for all connections, no COPY, no background jobs. What is
tested on it must not need them, and must leave a transaction quickly.
"""

import hashlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fix_stack import GIVEN, _database_container, _start, _stop, docker_answers, wait_until

from infra import cache, ports
from infra.postgres import server
from sinks.timescale import schema, upkeep

HERE = Path(__file__).parent / "timescaledb"
FILES = ("package.json", "package-lock.json", "serve.mjs")
INSTALL_S_MAX = 180


def _installed() -> Path:
    """The folder of the server's program, made once for each lock file; skips the test where npm cannot."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("TimescaleDB needs a Docker engine, or node and npm")
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:12]
    folder = cache.cache_dir() / f"timescaledb-{digest}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in FILES:
            shutil.copy(HERE / name, folder)
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S_MAX,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"npm could not install PGlite: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "installed").touch()
    return folder


@pytest.fixture(scope="session")
def timescaledb_server(stack_folder: Path) -> Iterator[str]:
    """The DSN of a database with TimescaleDB in its own licence; shared by all tests of the session."""
    if GIVEN:
        server.ensure_database(GIVEN, "telltale_tests")
        yield GIVEN.rpartition("/")[0] + "/telltale_tests"
        return
    if docker_answers():
        yield from _database_container()
        return
    folder, port, log = _installed(), ports.free(), stack_folder / "pglite.log"
    dsn = f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres?sslmode=disable"
    running = _start(["node", "serve.mjs", "memory://", str(port)], log=log, cwd=folder)
    try:
        wait_until(lambda: server.answers(dsn), what="PGlite", alive=lambda: running.poll() is None, log=log)
        yield dsn
    finally:
        _stop(running, signal.SIGTERM)


@pytest.fixture
def timescaledb(timescaledb_server: str) -> str:
    """The same with the schema in it and no rows."""
    schema.migrate(timescaledb_server)
    with psycopg.connect(timescaledb_server, autocommit=True, prepare_threshold=None) as connection:
        tables = connection.execute(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename NOT IN ('migrations')"
        ).fetchone()
        assert tables is not None
        connection.execute(f"TRUNCATE {tables[0]} CASCADE".encode())
        for name in upkeep.WIDTHS:  # of the test before; a plain refresh looks no further than the chunks there are
            connection.execute(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL, force => true)".encode())
    return timescaledb_server

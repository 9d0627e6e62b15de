"""One PostgreSQL server on loopback. Sets it up, says its command; whoever runs the command ends it with SIGINT.

`folder` keeps what is remembered: the password and where the data is. The data itself may lie
elsewhere, see `accounts.place_for`.
"""

import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.accounts import Account, place_for, unprivileged
from infra.ports import LOOPBACK
from infra.postgres.programs import Programs, find
from schemas.errors import Refused, Unavailable

USER = "telltale"
DATABASE = "telltale"
STOP_SIGNAL = signal.SIGINT
"""Fast shutdown: clients are told, transactions rolled back, a checkpoint written."""
INITDB_S_MAX = 120

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "fsync": "on",
    "wal_compression": "on",
    # The sink writes in bulk: a small log would force a checkpoint every few seconds.
    "max_wal_size": "2GB",
    # Plans over many partitions look costly and run for milliseconds; compiling them takes seconds.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True, slots=True)
class Server:
    folder: Path
    port: int
    settings: tuple[tuple[str, str], ...] = ()
    """Beyond `SETTINGS`."""

    @property
    def place(self) -> Path:
        """Where the data and the server's own files are. Known after `prepare`."""
        return self.folder / (self.folder / "place").read_text()

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text()

    def dsn(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def settle_in(self) -> None:
        """Decides once where the data will be and with which password; quick. Raises `Unavailable`."""
        # Others may pass through but not look: an account that root lends must reach its own folder below.
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not (self.folder / "password").exists():
            _write_private(self.folder / "password", secrets.token_hex(16))
        if not (self.folder / "place").exists():
            account = unprivileged()
            place = self.folder if account is None else place_for(account, self.folder / "server")
            inside = place.is_relative_to(self.folder)  # then the stack's folder may be moved
            _write_private(self.folder / "place", str(place.relative_to(self.folder) if inside else place))

    def prepare(self) -> None:
        """Makes the data folder once. Raises `Unavailable`; may be called again after any interruption."""
        self.settle_in()
        data = self.place / "data"
        if (data / "PG_VERSION").exists():
            return
        account = unprivileged()
        making = self.place / "making"
        shutil.rmtree(making, ignore_errors=True)
        self._initdb(making, find(account=account), account)
        making.rename(data)  # only a complete one gets the name

    def _initdb(self, data: Path, programs: Programs, account: Account | None) -> None:
        handed_over = self.place / "initial-password"
        _write_private(handed_over, self.password)
        if account:
            account.own(handed_over)
        options = [
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            f"--username={USER}",
            f"--pwfile={handed_over}",
        ]
        making = subprocess.run(
            [programs.program("initdb"), f"--pgdata={data}", *options],
            capture_output=True,
            text=True,
            timeout=INITDB_S_MAX,
            cwd=self.place,
            env=_environment(),
            check=False,
            **(account.popen() if account else {}),
        )
        handed_over.unlink()
        if making.returncode != 0:
            said = (making.stderr or making.stdout).strip().splitlines() or ["nothing"]
            raise Unavailable(f"PostgreSQL could not make {data}: {said[-1]}")

    def command(self) -> list[str]:
        """The server in the foreground; logs to standard error. Its working folder must be `place`."""
        data = self.place / "data"
        programs = find(account=unprivileged(), major=int((data / "PG_VERSION").read_text()))
        options = [f"--{name}={value}" for name, value in {**SETTINGS, **dict(self.settings)}.items()]
        return [programs.program("postgres"), "-D", str(data), "-p", str(self.port), *options]

    def remove(self) -> None:
        """Deletes all data, also where it lies outside `folder`. The server must not run."""
        if (self.folder / "place").exists():
            shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """This environment without PG* variables, which PostgreSQL's programs would obey."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _write_private(path: Path, text: str) -> None:
    """Whole or not there, whenever the machine stops."""
    coming = path.with_name(f"{path.name}.coming")
    coming.unlink(missing_ok=True)
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as private:
        private.write(text)
        private.flush()
        os.fsync(private.fileno())
    coming.replace(path)


def ensure_database(dsn: str, name: str) -> None:
    """Creates database `name` on the server of `dsn` if it is not there."""
    import psycopg  # noqa: PLC0415 - the edge does without
    from psycopg import sql  # noqa: PLC0415

    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        there = connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
        if not there:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def answers(dsn: str, *, timeout_s: int = 1) -> bool:
    """Whether a query is answered. Blocks `timeout_s` at most. Raises `Refused` for what is no address."""
    import psycopg  # noqa: PLC0415 - the edge does without

    try:
        with psycopg.connect(dsn, connect_timeout=max(2, timeout_s)) as connection:
            connection.execute("select 1")
    except psycopg.OperationalError:
        return False
    except psycopg.ProgrammingError as error:
        raise Refused(f"the database's address: {str(error).strip()}") from None
    return True

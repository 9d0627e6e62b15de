"""A broker and a database server of a test's own: they may be killed, frozen and emptied, for nobody else uses them."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from fix_faultbook import WAIT_S_MAX
from fix_services import await_true
from fix_stack import _start

from infra import ports
from infra.accounts import unprivileged
from infra.kafka import broker
from infra.postgres import server


@dataclass(frozen=True, slots=True)
class Listener:
    """One beside the broker's own that sends whoever asks there to `advertised`: a proxy. In a `Door`'s place."""

    name: str
    port: int
    advertised: str
    protocol: str = "PLAINTEXT"
    settings: Mapping[str, str] = field(default_factory=dict)

    def properties(self, before: Mapping[str, str]) -> dict[str, str]:
        """What it changes in the broker's settings."""
        return {
            "listeners": f"{before['listeners']},{self.name}://{ports.LOOPBACK}:{self.port}",
            "advertised.listeners": f"{before['advertised.listeners']},{self.name}://{self.advertised}",
            "listener.security.protocol.map": f"{before['listener.security.protocol.map']},{self.name}:{self.protocol}",
            **self.settings,
        }


class OwnBroker:
    """One broker. What it says is beside its folder, which may be emptied."""

    def __init__(self, folder: Path, *listeners: Listener) -> None:
        taken = frozenset(each.port for each in listeners)
        port = ports.free(taken=taken)
        self.folder = folder
        self.one = broker.Broker(folder, port, ports.free(taken=taken | {port}), doors=listeners)
        self.class_path = broker.prepared_class_path()
        self.process: Any = None

    @property
    def address(self) -> str:
        return self.one.address

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, **env: str) -> None:
        """Formats an empty folder, starts, waits."""
        self.one.prepare(class_path=self.class_path)
        log = self.folder.parent / f"{self.folder.name}-{time.monotonic_ns()}.log"
        self.process = _start(self.one.command(class_path=self.class_path), log=log, cwd=self.folder.parent, env=env)
        await_true(lambda: broker.answers(self.one.address), what="broker", within_s=WAIT_S_MAX)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As an operator does."""
        self.process.terminate()
        self.process.wait(60)

    def close(self) -> None:
        if self.runs:
            self.kill()


class OwnDatabase:
    """One database server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.one = server.Server(folder, ports.free(), settings=(("max_wal_size", "512MB"),))
        self.one.prepare()
        self.process: Any = None
        self._frozen: list[psutil.Process] = []

    @property
    def dsn(self) -> str:
        return self.one.dsn("telltale")

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, **env: str) -> None:
        account, log = unprivileged(), self.folder.parent / f"postgres-{time.monotonic_ns()}.log"
        self.process = _start(
            self.one.command(),
            log=log,
            cwd=self.one.place,
            account=account.popen() if account else None,
            env=env,
        )
        await_true(lambda: server.answers(self.one.dsn("postgres")), what="PostgreSQL", within_s=WAIT_S_MAX)
        server.ensure_database(self.one.dsn("postgres"), "telltale")

    def _all(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def kill(self) -> None:
        every = self._all()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(every[1:], timeout=30)

    def end(self) -> None:
        self.process.send_signal(server.STOP_SIGNAL)
        self.process.wait(60)

    def freeze(self) -> None:
        self._frozen = self._all()
        for each in self._frozen:
            with suppress(psutil.NoSuchProcess):
                each.suspend()

    def thaw(self) -> None:
        for each in reversed(self._frozen):
            with suppress(psutil.NoSuchProcess):
                each.resume()
        self._frozen = []

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode(), arguments or None).fetchall()

    def close(self) -> None:
        self.thaw()
        if self.runs:
            self.kill()
        self.one.remove()

"""Processes of this machine: start one, recognise it later, end it. Knows nothing of what they do.

A pid alone is no identity, for the system gives it out again; a pid with the moment its process was created is.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.accounts import Account
from infra.logs import appended

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever, also after a reboot or a step of the clock."""

    pid: int
    created: str

    def lives(self) -> bool:
        return created(self.pid) == self.created

    def send(self, signal_number: int) -> None:
        """Sends the signal if this very process still lives."""
        if self.lives():
            try:
                os.kill(self.pid, signal_number)
            except ProcessLookupError:
                return  # it ended in between

    def end(self, signal_number: int = signal.SIGTERM, *, timeout_s: float) -> bool:
        """Asks, waits `timeout_s`, then kills. False if it had to be killed. Also for children of others."""
        self.send(signal_number)
        if self._gone_within(timeout_s):
            return True
        self.send(signal.SIGKILL)
        self._gone_within(5)
        return False

    def _gone_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.lives():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def identify(pid: int) -> Identity | None:
    """Who has `pid` now, or None when nobody does (a zombie is nobody)."""
    moment = created(pid)
    return None if moment is None else Identity(pid, moment)


def myself() -> Identity:
    own = identify(os.getpid())
    if own is None:
        raise RuntimeError("a process that runs has a creation time")
    return own


def created(pid: int) -> str | None:
    """When the process was created, as a word to compare; None if it does not run any more."""
    if sys.platform == "linux":
        # Ticks since boot, which no step of the clock moves, and which boot that was.
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot[:8]}:{fields[19]}"
    import psutil  # noqa: PLC0415 - the edge does without

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return None


def start(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own (a Ctrl-C in the terminal is not for it), writing to `log`.

    The process writes the file itself, so it can outlive whoever started it. `env` adds to this environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with appended(log) as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            **(account.popen() if account else {}),
        )

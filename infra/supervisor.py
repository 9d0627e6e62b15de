"""Runs the parts of a stack: starts them in order, waits until each works, starts again what ended, stops all.

Knows processes and probes; what the parts are is none of its business. Readiness is always asked for, never waited
for by time; every wait is bounded.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from infra import processes
from infra.logs import Follower, last_line, log_file, shorten
from infra.parts import Part
from infra.stack import Service, Stack
from schemas.errors import Refused, Unavailable

TICK_S = 0.1
"""How late an ended part is noticed at worst. Ten looks a second cost under 1 % of a core."""


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a part that ended waits for its next start."""

    first_s: float = 0.5
    most_s: float = 30.0
    """Longer and people would think it had given up; shorter and a broken part keeps a core busy with starting."""
    healthy_s: float = 60.0
    """A part that ran this long starts afresh at `first_s`."""

    def delay_s(self, failures: int) -> float:
        """Doubles from `first_s` up to `most_s`; `failures` counts from 1."""
        return min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))


@dataclass(slots=True)
class Running:
    """What is known of one part. Times are of the monotonic clock, but `since_s`."""

    part: Part
    state: State = State.WAITING
    process: subprocess.Popen[bytes] | None = None
    identity: processes.Identity | None = None
    since_s: float = 0.0
    started_at: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    restarts: int = 0

    @property
    def works(self) -> bool:
        return self.state in (State.RUNNING, State.DONE)

    def service(self) -> Service:
        alive = self.identity if self.state in (State.STARTING, State.RUNNING) else None
        return Service(
            self.part.name,
            str(self.state),
            alive,
            self.restarts,
            self.since_s,
            int(self.part.stop_signal),
            self.part.metrics,
        )


class Supervisor:
    """`stack` is the record it keeps up to date; `say` gets one line for a person at each change."""

    def __init__(
        self,
        stack: Stack,
        parts: Sequence[Part],
        *,
        say: Callable[[str], None],
        backoff: Backoff | None = None,
        followers: Sequence[Follower] = (),
    ) -> None:
        self.is_up = False
        self._stack = stack
        self._parts = [Running(part) for part in parts]
        self._groups = [
            list(neighbours)
            for _, neighbours in groupby(self._parts, key=lambda running: running.part.group or running.part.name)
        ]
        self._say = say
        self._backoff = backoff or Backoff()
        self._followers = followers
        self._stops_asked = 0
        self._launches = False
        self._is_recorded = True
        self._ends = False

    def run(self, *, when_up: Callable[[], None]) -> None:
        """Until `ask_to_stop`. Raises `Unavailable` if a part does not come up; leaves no process behind, ever."""
        try:
            self._record()
            while not self._stops_asked:
                self._look(time.monotonic())
                if not self._is_recorded:
                    self._record()
                if not self.is_up and all(running.works for running in self._parts):
                    self.is_up = True
                    when_up()
                self._show()
                time.sleep(TICK_S)
        except KeyboardInterrupt:
            pass  # raised by `ask_to_stop` in the middle of a launch
        finally:
            self._launches = False
            self._ends = True
            self._stop_all()
            with suppress(OSError):  # whoever read it may be gone
                self._show()

    def ask_to_stop(self, *_: object) -> None:
        """A signal handler. The first asks for an orderly end, the next ones for an immediate one."""
        self._stops_asked += 1
        if self._launches:  # a download of minutes is not waited for
            raise KeyboardInterrupt

    def log(self, running: Running) -> Path:
        return log_file(self._stack.folder, running.part.name)

    def _look(self, now: float) -> None:
        """One look at each part, in order; a part is started only when all before its group have worked."""
        for group in self._groups:
            for running in group:
                self._look_at(running, now)
            if not self.is_up and not all(running.works for running in group):
                return
            for running in group:
                shorten(self.log(running))

    def _look_at(self, running: Running, now: float) -> None:
        if running.state in (State.STARTING, State.RUNNING) and running.process is not None:
            code = running.process.poll()
            if code is not None:
                self._ended(running, code, now)
            elif running.state is State.STARTING:
                self._await(running, now)
        elif running.state is State.WAITING or (running.state is State.RESTARTING and now >= running.retry_at):
            self._start(running)

    def _start(self, running: Running) -> None:
        self._launches = True
        try:
            launch = running.part.launch()
            self._launches = False
            running.process = processes.start(
                launch.command, log=self.log(running), env=launch.env, account=launch.account, cwd=launch.cwd
            )
        except (OSError, Refused, Unavailable) as error:
            if not self.is_up:
                raise
            self._launches = False  # a full disk above all: the others go on, and there is another try
            running.started_at = time.monotonic()
            self._failed(running, f"could not be started ({error})", running.started_at)
            return
        # None only if it has ended already, which the next look notices.
        running.identity = processes.identify(running.process.pid)
        running.started_at, running.since_s = time.monotonic(), time.time()
        self._change(running, State.STARTING, f"starting, pid {running.process.pid}")

    def _await(self, running: Running, now: float) -> None:
        waited_s = now - running.started_at
        # A task that is carried out once is ready when it has ended well.
        if not running.part.once and running.part.ready():
            self._change(running, State.RUNNING, f"works, after {time.monotonic() - running.started_at:.1f} s")
        elif waited_s > running.part.ready_s_max:
            self._ask(running)
            self._end(running, timeout_s=running.part.stop_s_max)
            self._failed(running, f"did not come up within {running.part.ready_s_max:.0f} s", now)

    def _ended(self, running: Running, code: int, now: float) -> None:
        if running.part.once and code == 0:
            self._change(running, State.DONE, "done")
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._failed(running, how, now)

    def _failed(self, running: Running, how: str, now: float) -> None:
        said = last_line(self.log(running))
        if not self.is_up:
            raise Unavailable(f"{running.part.name} {how}: {said or 'it said nothing'} (log: {self.log(running)})")
        if now - running.started_at > self._backoff.healthy_s:
            running.failures = 0
        running.failures += 1
        running.restarts += 1
        delay_s = self._backoff.delay_s(running.failures)
        running.retry_at = now + delay_s
        self._change(running, State.RESTARTING, f"{how}, starts again in {delay_s:.1f} s")

    def _stop_all(self) -> None:
        for group in reversed(self._groups):
            living = [each for each in reversed(group) if each.process is not None and each.process.poll() is None]
            # All at once: what needs a majority of its neighbours to stop in good order has it now.
            for running in living:
                self._ask(running)
            for running in living:
                kindly = self._end(running, timeout_s=running.part.stop_s_max)
                self._change(running, State.STOPPED, "stopped" if kindly else "did not stop and was killed")
            for running in group:
                if running not in living and not running.part.once:
                    self._change(running, State.STOPPED, "")

    def _ask(self, running: Running) -> None:
        if running.process is not None:
            running.process.send_signal(running.part.stop_signal)

    def _end(self, running: Running, *, timeout_s: float) -> bool:
        """Waits for a part that was asked to stop; kills it after `timeout_s`, or at once when the stack was asked to
        stop a second time."""
        process = running.process
        if process is None:
            return True
        deadline = time.monotonic() + timeout_s
        while process.poll() is None:
            if time.monotonic() > deadline or self._stops_asked > 1:
                process.kill()
                process.wait()
                return False
            time.sleep(processes.POLL_S)
        return True

    def _change(self, running: Running, state: State, said: str) -> None:
        running.state = state
        if said:
            with suppress(OSError):  # a terminal that was closed, a reader that has ended: no reason to end the parts
                self._say(f"{running.part.name}: {said}")
        self._record()

    def _record(self) -> None:
        """On a disk that is full once all works, the record is written when there is room again."""
        self._stack = replace(self._stack, services=tuple(running.service() for running in self._parts))
        try:
            self._stack.write()
        except OSError:
            if not (self.is_up or self._ends):
                raise
            self._is_recorded = False
        else:
            self._is_recorded = True

    def _show(self) -> None:
        for follower in self._followers:
            follower.show()

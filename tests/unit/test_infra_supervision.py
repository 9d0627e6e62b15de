"""The supervisor with small processes of its own: order, readiness, restarts, ends."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import processes
from infra.parts import Launch, Part
from infra.stack import Service, Stack, recorded
from infra.supervisor import Backoff, Supervisor
from schemas.errors import Unavailable

SLEEPS = "import time; time.sleep(60)"
QUICK = Backoff(first_s=0.01, most_s=0.02)


def part(
    name: str,
    code: str = SLEEPS,
    *,
    ready: Callable[[], bool] = lambda: True,
    once: bool = False,
    group: str | None = None,
) -> Part:
    return Part(name, lambda: Launch([sys.executable, "-S", "-c", code]), ready, once=once, stop_s_max=0.3, group=group)


class Trial:
    """A supervisor over `parts` that writes down what it says and stops at the first line that contains `last`."""

    def __init__(self, folder: Path, *parts: Part, last: str | None = None) -> None:
        self.said: list[str] = []
        self.services: list[tuple[str, int]] = []
        self._last = last
        self._folder = folder
        self.supervisor = Supervisor(Stack(folder, processes.myself()), parts, say=self._hear, backoff=QUICK)

    def _hear(self, line: str) -> None:
        self.said.append(line)
        if self._last and self._last in line:
            self.supervisor.ask_to_stop()

    def run(self, when_up: Callable[[], None] | None = None) -> None:
        self.supervisor.run(when_up=when_up or self.supervisor.ask_to_stop)

    def recorded(self) -> tuple[Service, ...]:
        stack = recorded(self._folder)
        return stack.services if stack else ()

    def pid(self, name: str) -> int:
        return next(each.process.pid for each in self.recorded() if each.name == name and each.process)

    def order(self, word: str) -> list[str]:
        return [line.partition(":")[0] for line in self.said if word in line]


def test_parts_start_in_order_and_stop_the_other_way_round(tmp_path: Path) -> None:
    trial = Trial(tmp_path, part("first"), part("second"), part("third"))
    trial.run()
    assert trial.order("starting") == ["first", "second", "third"]
    assert trial.order("stopped") == ["third", "second", "first"]


def test_a_part_starts_only_when_the_one_before_works(tmp_path: Path) -> None:
    answers = iter([False, False, True])
    trial = Trial(tmp_path, part("slow", ready=lambda: next(answers, True)), part("next"))
    trial.run()
    assert [line.split(",")[0] for line in trial.said[1:3]] == ["slow: works", "next: starting"]


def test_a_group_starts_together_and_the_next_part_when_all_of_it_works(tmp_path: Path) -> None:
    both = tmp_path / "both"
    trial = Trial(
        tmp_path,
        part("node-1", ready=both.exists, group="nodes"),
        part("node-2", f"open({str(both)!r}, 'w'); {SLEEPS}", group="nodes"),  # without which the first never works
        part("next"),
    )
    trial.run()
    assert trial.order("starting") == ["node-1", "node-2", "next"]
    assert sorted(trial.order("works")[:2]) == ["node-1", "node-2"]
    assert trial.order("stopped") == ["next", "node-2", "node-1"]


def test_a_task_is_carried_out_before_the_next_part_starts(tmp_path: Path) -> None:
    mark = tmp_path / "made"
    trial = Trial(tmp_path, part("task", f"open({str(mark)!r}, 'w')", once=True), part("service", ready=mark.exists))
    trial.run()
    assert "task: done" in trial.said
    assert trial.order("works") == ["service"]


def test_a_part_that_does_not_come_up_ends_all_with_its_last_words(tmp_path: Path) -> None:
    trial = Trial(tmp_path, part("broker"), part("sink", "raise SystemExit('no such table')"))
    with pytest.raises(Unavailable, match=r"sink ended with exit code 1: no such table \(log: .*sink.log\)"):
        trial.run()
    assert trial.order("stopped") == ["broker"]


def test_a_part_that_is_never_ready_ends_all(tmp_path: Path) -> None:
    never = Part("never", part("").launch, lambda: False, stop_s_max=1, ready_s_max=0.2)
    with pytest.raises(Unavailable, match="never did not come up within 0 s"):
        Trial(tmp_path, never).run()


def test_a_killed_part_is_started_again_and_counted(tmp_path: Path) -> None:
    trial = Trial(tmp_path, part("broker"), part("sink"), last="starts again in 0.0 s")
    trial.run(when_up=lambda: os.kill(trial.pid("sink"), signal.SIGKILL))
    assert "sink: was ended by SIGKILL, starts again in 0.0 s" in trial.said
    assert trial.order("starting") == ["broker", "sink"]


def test_restarts_are_counted_and_the_others_run_on(tmp_path: Path) -> None:
    killed = []

    def kill_once() -> None:
        killed.append(trial.pid("sink"))
        os.kill(killed[0], signal.SIGKILL)

    def up_again() -> bool:
        if killed:
            trial.services = [(each.name, each.restarts) for each in trial.recorded()]
            trial.supervisor.ask_to_stop()
        return True

    trial = Trial(tmp_path, part("broker"), part("sink", ready=up_again))
    trial.run(when_up=kill_once)
    assert trial.services == [("broker", 0), ("sink", 1)]
    assert trial.order("starting") == ["broker", "sink", "sink"]


def test_a_part_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    deaf = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(mark)!r}, 'w'); time.sleep(60)"
    trial = Trial(tmp_path, part("deaf", deaf, ready=mark.exists))
    trial.run()
    assert trial.said[-1] == "deaf: did not stop and was killed"


def test_a_second_request_to_stop_kills_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    deaf = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(mark)!r}, 'w'); time.sleep(60)"
    patient = Part("deaf", part("", deaf).launch, mark.exists, stop_s_max=3600)
    trial = Trial(tmp_path, patient)

    def twice() -> None:
        trial.supervisor.ask_to_stop()
        trial.supervisor.ask_to_stop()

    trial.run(when_up=twice)
    assert trial.said[-1] == "deaf: did not stop and was killed"


def test_a_terminal_that_is_gone_leaves_no_part_running(tmp_path: Path) -> None:
    left: list[processes.Identity] = []

    def closed(_: str) -> None:
        if left:
            raise OSError(5, "Input/output error")

    def hang_up() -> None:
        left.extend(each.process for each in trial.recorded() if each.process)
        trial.supervisor.ask_to_stop()

    trial = Trial(tmp_path, part("broker"), part("sink"))
    trial.supervisor = Supervisor(Stack(tmp_path, processes.myself()), [part("broker"), part("sink")], say=closed)
    trial.run(when_up=hang_up)
    assert len(left) == 2
    assert not any(each.lives() for each in left)


def test_a_full_disk_ends_no_part_and_is_recorded_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = Stack.write, [False]

    def to_disk(stack: Stack) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        write(stack)

    def launch() -> Launch:
        if full[0]:
            full[0] = False  # there is room again at the next try
            raise OSError(28, "No space left on device", "server.properties")
        return part("").launch()

    def fill_up() -> None:
        full[0] = True
        os.kill(trial.pid("sink"), signal.SIGKILL)

    def works() -> bool:
        if "starts again" in trial.said[-2]:
            trial.services = [(each.name, each.restarts) for each in trial.recorded()]
            trial.supervisor.ask_to_stop()
        return True

    monkeypatch.setattr(Stack, "write", to_disk)
    trial = Trial(tmp_path, part("broker"), Part("sink", launch, works, stop_s_max=0.3))
    trial.run(when_up=fill_up)
    assert any("could not be started ([Errno 28] No space left on device" in line for line in trial.said)
    assert trial.services == [("broker", 0), ("sink", 2)]
    assert trial.order("starting") == ["broker", "sink", "sink"]


def test_back_off_doubles_up_to_its_bound() -> None:
    backoff = Backoff(first_s=0.5, most_s=30)
    assert [backoff.delay_s(failures) for failures in (1, 2, 3, 7, 10_000)] == [0.5, 1.0, 2.0, 30.0, 30.0]

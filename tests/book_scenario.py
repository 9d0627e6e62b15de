"""One fault of the fault book: when it began, when it was mended, what was heard of it, and what became of the rows."""

import time
from collections import Counter
from collections.abc import Sequence

import psycopg
import pytest
from book_devices import CHANNELS, Load
from book_pipeline import Pipeline
from fix_faultbook import WAIT_S_MAX, Book
from fix_services import await_true


class Scenario:
    """One fault: when it began, when it was mended, what was heard of it; in the end the oracle and the row."""

    def __init__(self, pipeline: Pipeline, book: Book, devices: Sequence[str], *more: Load) -> None:
        """`devices` are those whose rows count: of the pipeline's load or of `more`."""
        self.pipeline, self.book, self.devices, self._loads = pipeline, book, devices, (pipeline.load, *more)
        self.first = {device: self.counts().get(device, 0) for device in devices}
        self.ends: dict[str, int] = {}
        self.clean = pipeline.clean_ends()
        self.began = self.mended_at = time.monotonic()
        self.told: dict[tuple[str, str], str] = {}
        self.recovered_s: float | None = None
        self.corrected = ""  # a device whose rows come once more, when the row behind has decided on their flag
        self.sent: dict[tuple[str, str, int], int] = {}  # (device, channel, time): how often, where a device repeats
        self.others = 0  # readings beside those, at which the test looks itself

    def counts(self) -> dict[str, int]:
        """Rows accepted, by device."""
        return {device: count for load in self._loads for device, count in load.counts().items()}

    def fault(self) -> None:
        """It happens now."""
        self.began = time.monotonic()

    def mended(self) -> None:
        self.mended_at = time.monotonic()

    def alarm(self, rule: str, *, source: str = "") -> None:
        """Waits until it is raised."""
        self._await(rule, "raised", self.began, source)
        after = self.pipeline.alarms.first(rule, "raised", since=self.began, source=source)
        self.told[rule, source] = f"{rule} {after:.1f} s"

    def cleared(self, rule: str, *, source: str = "") -> None:
        self._await(rule, "cleared", self.mended_at, source)
        after = self.pipeline.alarms.first(rule, "cleared", since=self.mended_at, source=source)
        self.told[rule, source] += f", cleared {after:.1f} s"

    def all_is_over(self) -> None:
        """Waits until every alarm that was told of since the fault is cleared, whichever they were."""
        alarms = self.pipeline.alarms
        self.pipeline.must(lambda: not alarms.standing(since=self.began), what="all alarms are over")
        raised = [event.data for event in alarms.since(self.began) if str(event.data.state) == "raised"]
        rules = Counter(alarm.rule for alarm in raised)
        chatter = len({(alarm.rule, alarm.source) for alarm in raised if alarm.reason == "chattering"})
        told = ", ".join(f"{count} x {rule}" for rule, count in sorted(rules.items()))
        self.told["all", ""] = f"{told}; all cleared" + (f" but {chatter} that chatter" if chatter else "")

    def _await(self, rule: str, state: str, since: float, source: str) -> None:
        def happened() -> bool:
            return self.pipeline.alarms.first(rule, state, since=since, source=source) is not None

        until = time.monotonic() + WAIT_S_MAX
        while not happened():
            if time.monotonic() > until:
                heard = [
                    (e.data.rule, e.data.source, str(e.data.state)) for e in self.pipeline.alarms.since(self.began)
                ]
                pytest.fail(f"{rule} {state} of {source or 'any source'} not within {WAIT_S_MAX} s; heard {heard}")
            time.sleep(0.05)

    def accepts(self) -> None:
        """Devices are not held up by it."""
        before = self.pipeline.load.counts()
        await_true(
            lambda: all(self.pipeline.load.counts()[each] > before[each] + 5 for each in self.pipeline.steady),
            what="accepting goes on",
            within_s=WAIT_S_MAX,
        )

    def flows(self) -> float:
        """What the steady devices accept now is stored; seconds until it is."""
        since, wanted = time.monotonic(), self.pipeline.load.counts()
        for device in self.pipeline.steady:
            first = self.first.get(device, wanted[device] - 1)
            self._await_stored(device, first, wanted[device])
        return time.monotonic() - since

    def flows_on(self) -> None:
        """What steady devices accept from now on is stored, whatever became of what was before."""
        first = self.pipeline.load.counts()
        wanted = {device: first[device] + 20 for device in self.pipeline.steady}
        self.pipeline.must(
            lambda: all(self.pipeline.load.counts()[each] >= count for each, count in wanted.items()), what="accepting"
        )
        for device, end in wanted.items():
            self._await_stored(device, first[device], end)

    def recovered(self) -> None:
        """Waits until all that was accepted by now is stored; measured from the mending."""
        wanted = self.counts()
        for device in self.devices:
            if device in wanted:
                self._await_stored(device, self.first[device], wanted[device])
        self.recovered_s = time.monotonic() - self.mended_at

    def _await_stored(self, device: str, first: int, end: int) -> None:
        def there() -> bool:
            try:
                return self.pipeline.stored(device, first, end) >= end - first
            except psycopg.Error:
                return False

        self.pipeline.must(there, what=f"{device}: rows {first} to {end} stored")

    def row(self, name: str, done: str, *, seed: int | None = None) -> None:
        """The oracle, over all that the devices have accepted since the beginning; then the row."""
        ends = {**self.counts(), **self.ends}
        for device in self.devices:
            self._await_stored(device, self.first[device], ends[device])
        lost = sum(self.pipeline.lost(device, self.first[device], ends[device]) for device in self.devices)
        self.book.tell(
            name,
            done,
            accepted=sum(ends[device] - self.first[device] for device in self.devices) * len(CHANNELS) + self.others,
            lost=lost,
            twice=self.pipeline.twice(self.clean, but=self.corrected, sent=self.sent),
            alarm="; ".join(self.told.values()) or "none",
            recovered_s=self.recovered_s,
            seed=seed,
        )

"""How much one client may ask for. Counts in this process's memory: a restart forgets, two processes allow twice.

Pure but for the counts: `now` (monotonic seconds) is passed in.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from dashboard.web.problems import too_many

CLIENTS_MAX = 10_000
"""Clients remembered; the one not seen for longest is forgotten. Some 200 bytes each."""


class Rate:
    """A bucket for each client that fills at `per_s` up to `burst`; a request takes one."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, now: float) -> float:
        """Takes one; 0 if there was one, else how long until there is."""
        left, since = self._buckets.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._per_s)
        taken = left >= 1
        self._buckets[client] = (left - 1 if taken else left, now)
        if len(self._buckets) > CLIENTS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._per_s

    def admit(self, client: str, now: float) -> None:
        """Raises `Problem` 429."""
        wait = self.wait_s(client, now)
        if wait:
            raise too_many(
                f"more than {self._per_s:g} requests a second (and {self._burst} at once); ask for more in one request",
                after_s=wait,
            )


class AtOnce:
    """How many of something one client, and all together, may have at the same time."""

    def __init__(self, what: str, *, of_one: int, of_all: int) -> None:
        self._what, self._of_one, self._of_all = what, of_one, of_all
        self._open: dict[str, int] = {}

    @property
    def open(self) -> int:
        """How many there are now."""
        return sum(self._open.values())

    @contextmanager
    def one_more(self, client: str) -> Iterator[None]:
        """Raises `Problem` 429."""
        if self._open.get(client, 0) >= self._of_one:
            raise too_many(f"you have {self._of_one} {self._what} open already; close one, or wait until it has ended")
        if self.open >= self._of_all:
            raise too_many(f"{self._of_all} {self._what} are open already; try again later")
        self._open[client] = self._open.get(client, 0) + 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

"""How much may be on its way at once, from how long acknowledgements take. Pure: sizes and seconds in, bytes out.

A window that a fast link needs would lie in a slow one for minutes, and new readings behind it. So it grows while
acknowledgements come quickly, and shrinks when they take longer than a second: what waits, waits in the spool, where
it can still be overtaken.
"""

from dataclasses import dataclass

START_BYTES = 64 * 1024  # a second of a 512 kbit/s link
LEAST_BYTES = 4 * 1024  # half a second of a 64 kbit/s link
QUICK_S = 0.5
SLOW_S = 1.0
FRAMES = 4  # of one window, so that the next one is on its way while one is acknowledged


@dataclass(slots=True)
class Pace:
    """`window_bytes` of readings as the spool counts them, before compression."""

    most_bytes: int
    window_bytes: int = START_BYTES
    _shrunk_at: float = 0.0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """For a link of which nothing is known."""
        self.window_bytes = min(START_BYTES, self.most_bytes)

    def acknowledged(self, size: int, *, waited_s: float, in_flight_bytes: int, now: float) -> None:
        """After one acknowledgement; `in_flight_bytes` were on their way with it."""
        if waited_s < QUICK_S:
            if 2 * in_flight_bytes >= self.window_bytes:  # else it says nothing about a larger window
                self.window_bytes = min(self.most_bytes, self.window_bytes + size)
        elif waited_s > SLOW_S and now - self._shrunk_at > waited_s:  # once for all that were sent together
            self._shrunk_at = now
            self.window_bytes = max(min(LEAST_BYTES, self.most_bytes), self.window_bytes * 2 // 3)

    def frame_bytes(self, most: int) -> int:
        """The largest frame to cut now."""
        return max(1024, min(most, self.window_bytes // FRAMES))

"""What every way must do."""

from typing import Protocol

from sinks.notify.notices import Notice


class Undelivered(Exception):  # noqa: N818 - named for what it is
    """The notice did not leave, or nobody said that it arrived."""


class Partly(Undelivered):
    """It arrived, but not everywhere, and will not: to carry it again would only repeat it to those who have it."""


class Carrier(Protocol):
    """Carries one notice; called from a thread of its own, may block up to the way's timeout."""

    once: bool
    """Whether the receiver knows a notice that comes a second time, so that it may be carried again without harm."""

    def carry(self, notice: Notice) -> None:
        """Returns when the receiver has taken it. Raises `Undelivered`, `Partly`."""

"""One line on standard error while something goes on. Knows how much of how much, not what of."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def download_line(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields `progress(done_bytes, total_bytes)`: a bar on a terminal, two plain lines elsewhere, nothing if unused."""
    if not sys.stderr.isatty():
        yield _plain(what)
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"downloading {what}", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def counting_bar() -> Iterator["Progress"]:
    """A bar of so many of so many with the time that is left, for a terminal; tasks have a `note`."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


def _plain(what: str) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done in (0, total):
            state = "downloading" if done == 0 else "downloaded"
            sys.stderr.write(f"{state} {what} ({total / 1e6:.0f} MB)\n")
            sys.stderr.flush()

    return progress

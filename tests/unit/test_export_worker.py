"""What makes exports goes on whatever happens to one look. No database."""

from pathlib import Path
from threading import Event

import pytest

from dashboard.exports import jobs
from dashboard.exports.settings import ExportSettings
from schemas.errors import Unavailable

TROUBLES = (Unavailable("database: away"), FileNotFoundError("12/mast.csv"), ZeroDivisionError("a bug"))


class Troubled(jobs.Jobs):
    """A queue whose first looks fail, each in its way."""

    def __init__(self, folder: Path) -> None:
        super().__init__("", folder)
        self.troubles, self.looked = list(TROUBLES), Event()

    def again(self, number: int | None = None, *, is_try: bool = True) -> None:
        return None

    def expire(self, **_: object) -> list[int]:
        return []

    def claim(self) -> int | None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.looked.set()
        return None


def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOOK_S", 0.001)
    monkeypatch.setattr(jobs, "PAUSE_S", 0.001)
    queue = Troubled(tmp_path)
    worker = jobs.Worker(queue, ExportSettings(), kafka=None)
    worker.start()
    try:
        assert queue.looked.wait(60)
    finally:
        worker.stop()

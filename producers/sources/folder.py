"""New files in a folder, each sent once by its content. Knows an open edge and files; what is in them `sending` knows.

A file is taken when it has not changed between two looks. One that is changed later is another file: for a file that
grows there is `file`.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from producers.edge import Edge
from producers.files.described import Description
from producers.files.logger_file import Stamping
from producers.sending import Asked, Sending
from producers.sources.following import DeviceOf
from producers.sources.port import Intake
from schemas.errors import Unavailable

STUCK_S = 5.0  # with a full spool and no acknowledgement: then the source waits and tries again

State = tuple[int, int, int]


@dataclass(slots=True)
class Folder:
    """See `Source`."""

    path: Path
    edge: Edge
    device_of: DeviceOf
    pattern: str = "*"
    told: Stamping = field(default_factory=Stamping)
    description: Description | None = None
    every_s: float = 5.0
    _done: dict[Path, State] = field(default_factory=dict)

    def run(self, intake: Intake, stop: threading.Event) -> None:
        asked = Asked(intake.device_id, self.told, self.description, timeout_s=STUCK_S)
        sending = Sending(self.edge, asked, device=self.device_of(intake.device_id), told=lambda *_: None)
        before: dict[Path, State] = {}
        while not stop.is_set():
            now = self._look()
            for path, state in now.items():
                if stop.is_set():
                    return
                if before.get(path) == state and self._done.get(path) != state:
                    report = sending.send(path)
                    intake.count(report.accepted)
                    if report.reason:
                        intake.odd(report.reason)
                    self._done[path] = state
            self._done = {path: state for path, state in self._done.items() if path in now}
            before = now
            sending.settle()
            sending.reports = [report for report in sending.reports if report.state == "sending"]
            stop.wait(self.every_s)

    def _look(self) -> dict[Path, State]:
        """Files and their states, the oldest first."""
        found = []
        try:
            for path in self.path.glob(self.pattern):
                about = path.stat()
                if path.is_file() and about.st_size and not path.name.startswith("."):
                    found.append((about.st_mtime_ns, path, about.st_size, about.st_ino))
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}") from None
        if not found and not self.path.is_dir():
            raise Unavailable(f"no such folder: {self.path}")
        return {path: (changed, size, inode) for changed, path, size, inode in sorted(found)}

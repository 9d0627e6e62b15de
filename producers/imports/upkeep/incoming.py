"""The folder into which uploads are put: WHO/NAME, whole once it has its name. Knows the folder and an importer.

Beside a file may lie what is said of it, as `.NAME.json`: {"device", "utc_offset_minutes", "stamp", "interval_s",
"date_order", "password", "again"}; written again, it is an answer, and the file is tried once more. What is through
goes from the folder: the archive has it. What waits for an answer stays.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producers.files.logger_file import Stamping
from producers.imports.finding import files_below
from producers.imports.importer import Importer
from producers.imports.unpacking import Found, members
from schemas.errors import Refused
from schemas.records import ImportState, ImportStatus

WAITING = (ImportState.NEEDS_AN_ANSWER, ImportState.UNKNOWN)


class Said(BaseModel):
    """What is said of an upload beside it."""

    model_config = ConfigDict(extra="forbid")

    device: str | None = None
    utc_offset_minutes: Annotated[int, Field(ge=-840, le=840)] | None = None
    stamp: Literal["begin", "end"] | None = None
    interval_s: Annotated[float, Field(gt=0)] | None = None
    date_order: Literal["dmy", "mdy", "ymd"] | None = None
    password: str | None = None
    again: bool = False


State = tuple[int, int, int]


class Incoming:
    """Call `look` again and again, and `forget` when devices have changed."""

    def __init__(
        self,
        importer: Importer,
        folder: Path,
        *,
        say: Callable[[ImportStatus], None],
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`refresh` brings the importer's knowledge of devices up to date, before a new file is taken."""
        self._importer, self._folder, self._say, self._refresh = importer, folder, say, refresh
        self._done: dict[Path, State] = {}
        self._seen: dict[Path, State] = {}

    def look(self) -> None:
        """Takes what is new. Raises `Unavailable` when a neighbour fails."""
        there = {path: state for path in files_below(self._folder) if (state := _state(path)) is not None}
        due = {path: state for path, state in there.items() if self._seen.get(path) == state != self._done.get(path)}
        if due:
            self._refresh()
        for path, state in due.items():
            self._take(path)
            self._done[path] = state
        self._seen = there
        self._done = {path: state for path, state in self._done.items() if path in there}

    def forget(self) -> None:
        """What waits is tried once more."""
        self._done = {}

    def _take(self, path: Path) -> None:
        importer, asked = self._importer, self._importer.asked
        who = path.relative_to(self._folder).parts[0] if path.parent != self._folder else None
        try:
            said = Said.model_validate_json(_beside(path).read_bytes())
        except FileNotFoundError:
            said = Said()
        except (OSError, ValidationError) as error:
            importer.refuse(Found(path), f"what is said of {path.name} cannot be read: {error}")
            said = None
        before = len(importer.outcomes)
        if said is not None:
            told = Stamping(said.utc_offset_minutes, said.stamp, said.interval_s, said.date_order)
            importer.asked = replace(asked, device_id=said.device, told=told, password=said.password, uploaded_by=who)
            importer.again = said.again
            try:
                importer.read(members(path), jobs=1)
            except Refused as error:
                importer.refuse(Found(path), str(error))
            finally:
                importer.asked, importer.again = asked, False
        outcomes = importer.outcomes[before:]
        for outcome in outcomes:
            self._say(outcome.status)
        if outcomes and not any(outcome.status.state in WAITING for outcome in outcomes):
            with suppress(OSError):
                path.unlink()
                _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _state(path: Path) -> State | None:
    try:
        about = path.stat()
    except OSError:
        return None
    try:
        said = _beside(path).stat().st_mtime_ns
    except OSError:
        said = 0
    return about.st_size, about.st_mtime_ns, said

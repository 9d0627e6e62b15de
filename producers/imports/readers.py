"""Files read side by side: in processes where there are many, in this one where there are few. Knows processes.

What a process has read waits in its pipe until it is taken, so memory is bounded whatever the files hold. A process
that dies costs its file a status, not the import.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Any

from infra.printable import storable
from producers.imports.one_file import TEXT_MAX, Answer, Asked, Done, Event, Hashed, Planned, read
from producers.imports.unpacking import Found
from schemas.errors import Unavailable
from schemas.records import ImportState, ImportStatus

FEW = 3  # files, for which starting processes takes longer than reading
END_S = 5.0

Told = Callable[[Found, Event], Answer]
"""Is called with each event in turn; what it answers to `Hashed` and `Planned` goes to the file's reader."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A file could not be read to its end. `neighbour`: whose fault it is, if not the file's or ours."""

    what: str
    neighbour: Unavailable | None = None


class _Next:
    """The file is through."""


def read_all(found: Iterable[Found], asked: Asked, *, jobs: int, told: Told) -> None:
    """Every file, each to its end. Raises what `told` raises, and `Unavailable` for a disk that fails."""
    todo = list(found)
    if jobs == 1 or len(todo) <= FEW:
        for one in todo:
            _here(one, asked, told)
        return
    with _Pool(asked, min(jobs, len(todo))) as pool:
        pool.run(iter(todo), told)


def _here(one: Found, asked: Asked, told: Told) -> None:
    conversation = _spoken(one, asked)
    answer: Answer = None
    try:
        event = next(conversation)
        while True:
            if isinstance(event, Failed):
                _tell_failed(one, event, told)
                event = next(conversation)
                continue
            answer = told(one, event)
            event = conversation.send(answer)
    except StopIteration:
        pass


def _spoken(one: Found, asked: Asked) -> Any:
    """`read`, whose failure is an event too."""
    try:
        yield from read(one, asked)
    except Unavailable as error:
        yield Failed(str(error), error)
    except Exception as error:  # noqa: BLE001 - a bug of ours costs one file, and is told with it
        yield Failed(f"{type(error).__name__}: {error}")


def _tell_failed(one: Found, failed: Failed, told: Told) -> None:
    if failed.neighbour is not None:
        raise failed.neighbour
    now = datetime.now(UTC)
    told(one, Done(lost(one, f"Telltale failed to read it, which is a bug to be reported ({failed.what})", now=now)))


def lost(one: Found, why: str, *, now: datetime) -> ImportStatus:
    """Of a file that came to nothing before it had a status; its hash is not known, and left empty."""
    return ImportStatus(
        sha256="",
        name=one.name,
        source=one.source,
        state=ImportState.REFUSED,
        reason=storable(why)[:TEXT_MAX],
        time=now,
        found=now,
    )


class _Pool:
    def __init__(self, asked: Asked, jobs: int) -> None:
        self._asked = asked
        self._jobs = jobs
        # Not forked: librdkafka's threads would be missing in the copy, and its locks held for ever.
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, Any] = {}
        self._at_work: dict[Connection, Found] = {}

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe, process in self._processes.items():
            pipe.close()
            process.join(0.2)
            if process.is_alive():
                process.terminate()
                process.join(END_S)

    def run(self, todo: Iterator[Found], told: Told) -> None:
        for _ in range(self._jobs):
            self._give(self._start(), todo)
        while self._at_work:
            for pipe in wait(list(self._at_work)):
                assert isinstance(pipe, Connection)  # noqa: S101 - what we put in
                self._hear(pipe, todo, told)

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._asked), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _give(self, pipe: Connection, todo: Iterator[Found]) -> None:
        self._at_work.pop(pipe, None)
        one = next(todo, None)
        if one is None:
            return
        if not self._sent(pipe, one):
            self._processes.pop(pipe).join(END_S)
            pipe = self._start()
            self._sent(pipe, one)
        self._at_work[pipe] = one

    def _sent(self, pipe: Connection, what: Any) -> bool:
        """False where nobody listens any more."""
        try:
            pipe.send(what)
        except OSError:
            return False
        return True

    def _hear(self, pipe: Connection, todo: Iterator[Found], told: Told) -> None:
        one = self._at_work[pipe]
        try:
            event = pipe.recv()
        except (EOFError, OSError):
            self._lost(pipe, one, todo, told)
            return
        if isinstance(event, _Next):
            self._give(pipe, todo)
        elif isinstance(event, Failed):
            _tell_failed(one, event, told)
        else:
            answer = told(one, event)
            if isinstance(event, Hashed | Planned) and not self._sent(pipe, answer):
                self._lost(pipe, one, todo, told)

    def _lost(self, pipe: Connection, one: Found, todo: Iterator[Found], told: Told) -> None:
        self._at_work.pop(pipe)
        self._processes.pop(pipe).join(END_S)
        why = "the process that read it was ended from outside, perhaps for want of memory; import it again"
        told(one, Done(lost(one, why, now=datetime.now(UTC))))
        self._give(self._start(), todo)


def _serve(pipe: Connection, asked: Asked) -> None:
    """A process's life: one file after another, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the importer's affair
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while True:
            one = pipe.recv()
            conversation = _spoken(one, asked)
            answer: Answer = None
            try:
                event = next(conversation)
                while True:
                    pipe.send(event)
                    answer = pipe.recv() if isinstance(event, Hashed | Planned) else None
                    event = conversation.send(answer)
            except StopIteration:
                pass
            pipe.send(_Next())
    except (EOFError, OSError):
        return

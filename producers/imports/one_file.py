"""One file from its bytes to rows of a device, step by step. Knows the archive and formats; knows no spool, no broker.

`read` is a conversation: it tells what it has found, and twice waits for an answer: whether a file of this content is
wanted, and how far it has come before. So it runs as well in a process of its own as in ours.
"""

import hashlib
import mmap
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra.printable import storable
from producers.files.described import Description
from producers.files.logger_file import Column, Identity, LoggerFile, Stamping
from producers.files.recognise import recognise
from producers.files.refusal import RefusedAt
from producers.files.stamps import merged, span_of
from producers.files.toa5 import HEADERS
from producers.imports.archive import Archive, Kept
from producers.imports.identifying import Verdict, identify, loggers_of, measured
from producers.imports.reading import Import, Unanswered, plan
from producers.imports.unpacking import Found, NeedsPassword
from producers.spool import FileMark, Rows
from schemas.devices import Device, Program
from schemas.errors import Refused, Unavailable
from schemas.records import ImportState, ImportStatus

TEXT_MAX = 2_000  # of a reason that goes into a status
CODES_MAX = 200  # told in a status: two for each channel of a large mast


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person said, and what is known of devices."""

    archive: Path
    devices: Mapping[str, Device]
    taken: Mapping[str, Sequence[tuple[str, Program]]]
    device_id: str | None = None
    told: Stamping = field(default_factory=Stamping)
    description: Description | None = None
    password: str | None = None
    uploaded_by: str | None = None
    within: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Hashed:
    """The file is in the archive. Answer: whether it is wanted."""

    status: ImportStatus


@dataclass(frozen=True, slots=True)
class Planned:
    """The file is going to be read for a device. Answer: how far it came before (`Mark`), or that it is not wanted."""

    status: ImportStatus
    key: str  # under which the spool remembers it


@dataclass(frozen=True, slots=True)
class Mark:
    """An answer to `Planned`."""

    mark: FileMark | None


@dataclass(frozen=True, slots=True)
class Step:
    """Rows, and how far the file is with them."""

    rows: list[Rows]
    mark: FileMark
    status: ImportStatus


@dataclass(frozen=True, slots=True)
class Done:
    """All there is: what became of it, and what the person said that the device does not know yet."""

    status: ImportStatus
    learned: Stamping | None = None


Event = Hashed | Planned | Step | Done
Answer = Mark | bool | None
Reading = Generator[Event, Answer, None]


def read(found: Found, asked: Asked) -> Reading:
    """Ends with `Done`, unless an answer said that the file is not wanted. May raise `Unavailable`."""
    now = datetime.now(UTC)
    status = ImportStatus(
        sha256="",
        name=found.name,
        device_id=asked.device_id,
        state=ImportState.FOUND,
        time=now,
        found=now,
        source=found.source,
        uploaded_by=asked.uploaded_by,
    )
    archive = Archive(asked.archive)
    try:
        kept = archive.keep(found, password=asked.password)
    except Refused as error:
        state = ImportState.NEEDS_AN_ANSWER if isinstance(error, NeedsPassword) else ImportState.REFUSED
        questions = (str(error),) if isinstance(error, NeedsPassword) else ()
        status = status.model_copy(update={"sha256": hash_of_packed(found), "bytes": found.path.stat().st_size})
        yield Done(_ended(status, state, str(error), questions=questions))
        return
    status = status.model_copy(
        update={"sha256": kept.sha256, "bytes": kept.size, "archive": archive.link_of(kept.path)}
    )
    wanted = yield Hashed(status)
    if not wanted:
        return
    try:
        yield from _known(kept, status, asked)
    except Refused as error:
        yield Done(_refused(status, error))


def _known(kept: Kept, status: ImportStatus, asked: Asked) -> Reading:
    """From its content on. Raises `Refused`."""
    file = recognise(kept, asked.description, told=asked.told)
    headers = later_headers(kept.path, file.format) if file.format in HEADERS else []
    later = [column for _, columns in headers for column in columns]
    status = status.model_copy(update=described(file))
    verdict = _verdict(file, headers, asked, kept.name)
    if verdict.state is not None or verdict.device is None:
        update = {"device_id": verdict.device.device_id if verdict.device else asked.device_id}
        state = verdict.state or ImportState.UNKNOWN
        yield Done(_ended(status.model_copy(update=update), state, verdict.reason, questions=verdict.questions))
        return
    device = verdict.device
    mine = device.model_copy(update={"loggers": loggers_of(device, file.identity.serial)})
    told = merged(
        asked.told, Stamping(date_order=next((each.date_order for each in mine.loggers if each.date_order), None))
    )
    if told != asked.told:
        file = recognise(kept, asked.description, told=told)
    status = status.model_copy(update={"device_id": device.device_id, "state": ImportState.PARSING})
    if file.questions:
        reason = f"{kept.name}: {'; '.join(file.questions)}"
        yield Done(_ended(status, ImportState.NEEDS_AN_ANSWER, reason, questions=tuple(file.questions)))
        return
    try:
        made = plan(
            file,
            name=kept.name,
            device_id=device.device_id,
            device=mine,
            told=told,
            sha256=_mark_key(kept.sha256, asked.within),
            span=lambda: span_of(recognise(kept, asked.description, told=told)),
            later=later,
        )
    except Unanswered as error:
        questions = tuple(str(error).partition(": ")[2].split("; ")) or (str(error),)
        yield Done(_ended(status, ImportState.NEEDS_AN_ANSWER, str(error), questions=questions))
        return
    answer = yield Planned(status, made.sha256)
    if not isinstance(answer, Mark):
        return
    one = Import.begin(file, made, answer.mark, within=asked.within)
    accepted: list[tuple[list[Rows], FileMark]] = []
    for mark in one.run(lambda rows, mark: accepted.append((rows, mark))):
        status = _counted(status, file, one, mark)
        for rows, of in accepted:
            yield Step(rows, of, status)
        accepted.clear()
    status = _counted(status, file, one, one.mark)
    yield Done(status.model_copy(update={"time": datetime.now(UTC)}), asked.told if asked.told != Stamping() else None)


def _verdict(
    file: LoggerFile, headers: Sequence[tuple[Identity, tuple[Column, ...]]], asked: Asked, name: str
) -> Verdict:
    """The file's, or that of the first header further down that is not clear."""
    verdict = Verdict()
    for identity, columns in ((file.identity, file.columns), *headers):
        verdict = identify(identity, columns, name=name, devices=asked.devices, taken=asked.taken, told=asked.device_id)
        if verdict.state is not None:
            return verdict
    return verdict


def later_headers(path: Path, format_: str) -> list[tuple[Identity, tuple[Column, ...]]]:
    """Headers behind the first one that are unlike those before: LoggerNet writes one when it reconnects."""
    mark, count, read = HEADERS[format_]
    found: list[tuple[Identity, tuple[Column, ...]]] = []
    with path.open("rb") as file:
        if not path.stat().st_size:
            return found
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            seen: set[bytes] = set()
            at = data.find(mark)
            while at >= 0:
                line = data.rfind(b"\n", 0, at) + 1
                text = _lines(data, line, count) if at - line <= 4 else b""
                if text and text not in seen and seen:
                    lines = text.decode("utf-8", errors="replace").replace("\r\n", "\n").split("\n")
                    try:
                        identity, columns, _ = read(lines[:count], name=path.name, line=1)
                    except Refused:
                        pass  # the reader tells of it, with its line
                    else:
                        found.append((identity, columns))
                if text:
                    seen.add(text)
                at = data.find(mark, at + len(mark))
    return found


def _lines(data: mmap.mmap, at: int, count: int) -> bytes:
    """A header's lines."""
    end = at
    for _ in range(count):
        end = data.find(b"\n", end) + 1
        if not end:
            return b""
    return bytes(data[at : end - 1])


def described(file: LoggerFile) -> dict[str, object]:
    """What a header tells of its logger, as fields of a status."""
    names = ("maker", "model", "serial", "table", "program", "signature")
    update: dict[str, object] = {name: storable(getattr(file.identity, name)) for name in names}
    return {**update, "format": file.format, "columns": tuple(map(storable, measured(file.columns)))}


def _counted(status: ImportStatus, file: LoggerFile, one: Import, mark: FileMark) -> ImportStatus:
    tally = file.tally
    left_out = tuple(name for name, why in one.left_out.items() if why.startswith(("not configured", "only in")))
    return status.model_copy(
        update={
            "rows": tally.rows,
            "readings": mark.readings_accepted,
            "missing": tally.missing,
            "repeated": tally.repeated,
            "out_of_order": tally.out_of_order,
            "problems": tally.problem_count,
            "line": tally.problems[0].line if tally.problems else None,
            "left_out": left_out,
            "looks_missing": tuple(storable(str(each)) for each in tally.codes.met(but=tally.texts)[:CODES_MAX]),
            "first_time": _time(one.first_us),
            "last_time": _time(one.last_us),
            "state": ImportState.SENDING,
        }
    )


def _time(us: int | None) -> datetime | None:
    try:
        return None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
    except (ValueError, OverflowError):
        return None


def _refused(status: ImportStatus, error: Refused) -> ImportStatus:
    ended = _ended(status, ImportState.REFUSED, str(error))
    return ended.model_copy(update={"line": error.line}) if isinstance(error, RefusedAt) else ended


def _ended(status: ImportStatus, state: ImportState, reason: str, *, questions: Sequence[str] = ()) -> ImportStatus:
    update = {
        "state": state,
        "reason": storable(reason)[:TEXT_MAX],
        "questions": tuple(storable(each)[:TEXT_MAX] for each in questions),
        "time": datetime.now(UTC),
    }
    return status.model_copy(update=update)


def hash_of_packed(found: Found) -> str:
    """Of what could not be unpacked; of a member, of both."""
    try:
        with found.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise Unavailable(f"{found.path} cannot be read: {error.strerror}") from None
    if found.member is not None:
        digest.update(found.member.encode(errors="replace"))
    return digest.hexdigest()


def _mark_key(sha256: str, within: Sequence[tuple[int, int]] | None) -> str:
    """Under which the spool remembers the file; its part that is read again is something else."""
    return sha256 if within is None else hashlib.sha256(f"{sha256}|{list(within)}".encode()).hexdigest()

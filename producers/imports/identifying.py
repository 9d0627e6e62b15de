"""Which device a logger file is of, and whether its logger still runs the program that is known. Pure.

By serial number first, then by program signature and table. What is not known is never guessed: the verdict says what
to accept, or asks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from producers.files.logger_file import Column, Identity, Kind
from schemas.devices import Device, Logger, Program
from schemas.records import ImportState, ImportStatus

TAKEN = (ImportState.SENDING, ImportState.SENT, ImportState.STORED)
NAMES_MAX = 20  # of one line that a person reads


@dataclass(frozen=True, slots=True)
class Verdict:
    """A device, or why there is none: `state` is then what the file's status becomes."""

    device: Device | None = None
    state: ImportState | None = None
    reason: str = ""
    questions: tuple[str, ...] = ()


def measured(columns: Sequence[Column]) -> tuple[str, ...]:
    """Names of what the logger measures, in the file's order. Texts too: some rows of a column may look like none."""
    return tuple(column.name for column in columns if column.kind in (Kind.VALUE, Kind.TEXT))


def value_columns(columns: Sequence[Column]) -> tuple[str, ...]:
    """Those that could become readings."""
    return tuple(column.name for column in columns if column.kind is Kind.VALUE)


def program_of(identity: Identity, columns: Sequence[Column]) -> Program:
    """What a file says of its logger's program."""
    names = measured(columns)
    return Program(table=identity.table, program=identity.program, signature=identity.signature, columns=names)


def learned(statuses: Iterable[ImportStatus]) -> dict[str, list[tuple[str, Program]]]:
    """By device: (serial, program) of files that were taken."""
    found: dict[str, list[tuple[str, Program]]] = {}
    for each in statuses:
        if each.device_id and each.state in TAKEN and each.columns:
            program = Program(table=each.table, program=each.program, signature=each.signature, columns=each.columns)
            pair = (each.serial, program)
            known = found.setdefault(each.device_id, [])
            if pair not in known:
                known.append(pair)
    return found


def same_serial(one: str | None, other: str) -> bool:
    """Serial numbers as people and files write them: `SN 00123` is `123`."""
    return bool(one and other) and _bare(one or "") == _bare(other)


def _bare(serial: str) -> str:
    text = serial.strip().upper().removeprefix("S/N").removeprefix("SN").lstrip(" :#.-")
    return text.lstrip("0") or text


def loggers_of(device: Device, serial: str) -> tuple[Logger, ...]:
    """The device's logger of that serial number, over the years; all of them where none has it."""
    mine = tuple(logger for logger in device.loggers if same_serial(logger.serial, serial))
    return mine or device.loggers


def identify(
    identity: Identity,
    columns: Sequence[Column],
    *,
    name: str,
    devices: Mapping[str, Device],
    taken: Mapping[str, Sequence[tuple[str, Program]]],
    told: str | None = None,
) -> Verdict:
    """The device of a file, by what it says of its logger; `told` is the device that a person named."""
    program = program_of(identity, columns)
    if told is not None:
        if told not in devices:
            return _unknown_device(told, devices)
        return _with_program(devices[told], identity, columns, taken.get(told, ()), name)
    fitting = [
        one for one in devices.values() if any(same_serial(each.serial, identity.serial) for each in one.loggers)
    ]
    if not fitting and not identity.serial:
        fitting = [one for one in devices.values() if _knows(one, program, taken.get(one.device_id, ()))]
    if len(fitting) > 1:
        fitting = _by_program(fitting, program, value_columns(columns), taken)
    if len(fitting) == 1:
        device = fitting[0]
        return _with_program(device, identity, columns, taken.get(device.device_id, ()), name)
    if fitting:
        names = ", ".join(sorted(one.device_id for one in fitting))
        question = f"which device is it of? --device ID ({names} have this logger)"
        return Verdict(None, ImportState.NEEDS_AN_ANSWER, f"{name}: {question}", (question,))
    return _unknown_logger(identity, name)


def _by_program(
    fitting: list[Device],
    program: Program,
    values: Sequence[str],
    taken: Mapping[str, Sequence[tuple[str, Program]]],
) -> list[Device]:
    """Of several devices with one logger: those that know the program, else those that have all columns."""
    knowing = [one for one in fitting if _knows(one, program, taken.get(one.device_id, ()))]
    if knowing:
        return knowing
    wanted = set(values)
    return [one for one in fitting if wanted <= {sensor.channel for sensor in one.sensors}] or fitting


def _knows(device: Device, program: Program, taken: Sequence[tuple[str, Program]]) -> bool:
    known = [*(each for logger in device.loggers for each in logger.programs), *(each for _, each in taken)]
    return any(_is_same(each, program) for each in known)


def _is_same(known: Program, program: Program) -> bool:
    return (known.table, known.signature, known.columns) == (program.table, program.signature, program.columns)


def _unknown_device(told: str, devices: Mapping[str, Device]) -> Verdict:
    names = ", ".join(sorted(devices)[:NAMES_MAX]) or "none"
    reason = f"device {told} is not configured (configured: {names}); telltale stations import FILE does it"
    return Verdict(None, ImportState.UNKNOWN, reason)


def _unknown_logger(identity: Identity, name: str) -> Verdict:
    words = " ".join(word for word in (identity.maker, identity.model, identity.serial) if word)
    if not identity.serial:
        what = f"{name} does not say which logger wrote it{f' ({words})' if words else ''}: say --device ID, or"
    else:
        what = f"no device has the logger {words}:"
    return Verdict(
        None,
        ImportState.UNKNOWN,
        f"{what} look at a ready-made configuration with `telltale stations adopt FILE --dry-run`, "
        "and accept it with `telltale stations adopt FILE`",
    )


def _with_program(
    device: Device,
    identity: Identity,
    columns: Sequence[Column],
    taken: Sequence[tuple[str, Program]],
    name: str,
) -> Verdict:
    """Whether the program is known; a changed one is asked for, new columns are not left out in silence."""
    program = program_of(identity, columns)
    accepted = [each for logger in loggers_of(device, identity.serial) for each in logger.programs]
    if any(_is_same(each, program) for each in accepted):
        return Verdict(device)
    before = [
        each for serial, each in taken if not serial or not identity.serial or same_serial(serial, identity.serial)
    ]
    if any(_is_same(each, program) for each in before):
        return Verdict(device)
    configured = {sensor.channel for sensor in device.sensors}
    new = [column for column in value_columns(columns) if column not in configured]
    same_table = [each for each in (*accepted, *before) if each.table == program.table]
    # An export says nothing of a program: its columns are those that somebody chose.
    if same_table and (program.signature or program.program):
        changes = _changes(same_table[-1], program)
        question = f"{name}: the logger's program has changed ({'; '.join(changes)}): " + _adopt(device.device_id)
        return Verdict(device, ImportState.NEEDS_AN_ANSWER, question, (question,))
    if new:
        reason = (
            f"{name}: device {device.device_id} has no channel for {_listed(new)}: accept them with "
            "`telltale stations adopt FILE` (--dry-run shows what that changes, --leave-out COLUMN and "
            "--leave-out-new leave columns out for good)"
        )
        return Verdict(device, ImportState.UNKNOWN, reason)
    return Verdict(device)


def _adopt(device_id: str) -> str:
    return f"accept it with `telltale stations adopt FILE --device {device_id}` (--dry-run shows what that changes)"


def _changes(known: Program, program: Program) -> list[str]:
    """What is different, in words."""
    changes = []
    if known.signature != program.signature:
        changes.append(f"signature {known.signature or 'none'} is now {program.signature or 'none'}")
    if known.program != program.program:
        changes.append(f"program {known.program or 'none'} is now {program.program or 'none'}")
    new = [name for name in program.columns if name not in known.columns]
    gone = [name for name in known.columns if name not in program.columns]
    if new:
        changes.append(f"new columns: {_listed(new)}")
    if gone:
        changes.append(f"columns gone: {_listed(gone)}")
    kept_before = [name for name in known.columns if name in program.columns]
    kept_now = [name for name in program.columns if name in known.columns]
    if kept_before != kept_now:
        moved = [now for before, now in zip(kept_before, kept_now, strict=False) if before != now]
        changes.append(f"columns moved: {_listed(moved)}")
    return changes or ["it is described otherwise"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more

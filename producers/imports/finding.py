"""The files that are meant by names of files and folders. Knows folders and archives."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.stack import folder as stack_folder
from producers.imports.unpacking import Found, members
from schemas.errors import Refused


def files_in(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, those of folders in the order of their names. Hidden ones are left out. Raises `Refused` for none."""
    for path in paths:
        if path.is_dir():
            yield from files_below(path)
        elif path.exists():
            yield path
        else:
            raise Refused(f"no such file or folder: {path}")


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Sorted. The stack's own folder, where it lies in this one, is left out."""
    own = stack_folder()
    return sorted(
        each
        for each in folder.rglob(pattern)
        if not any(part.startswith(".") for part in each.relative_to(folder).parts)
        and (own in folder.absolute().parents or own == folder.absolute() or own not in each.absolute().parents)
        and each.is_file()
    )


def found_in(paths: Iterable[Path]) -> Iterator[tuple[Found, str | None]]:
    """What is to be read, members of archives one by one; with why not, where an archive cannot be opened."""
    for path in files_in(paths):
        try:
            inside = members(path)
        except Refused as error:
            yield Found(path), str(error)
            continue
        for one in inside:
            yield one, None

"""A file system of a few megabytes, which only root can make: what fills it harms nobody."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(folder: Path, size: str) -> bool:
    """Makes `folder` a disk of this size, such as 30m; whether it could be made."""
    return _ran("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))


def make_room(folder: Path, size: str) -> None:
    """The disk is larger from now on."""
    assert _ran("mount", "-o", f"remount,size={size}", str(folder))


def unmount(folder: Path) -> None:
    """Also while somebody has a file open on it."""
    _ran("umount", "-l", str(folder))


def _ran(*words: str) -> bool:
    try:
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """For a test: skipped where it cannot be made."""
    folder.mkdir()
    if not mount(folder, size):
        pytest.skip("a small disk can be made only by root")
    try:
        yield folder
    finally:
        unmount(folder)

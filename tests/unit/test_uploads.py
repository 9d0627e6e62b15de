"""The folder of uploads: what is said of a file that waits, and who may read it. Nobody is asked by HTTP here."""

import stat
from pathlib import Path

import orjson
import pytest

from dashboard.imports.uploads import Upload, tell
from schemas.errors import Refused


def uploaded(incoming: Path, name: str, said: dict[str, str]) -> Path:
    with Upload(incoming, bytes_max=1_000) as coming:
        coming.write(b"content")
        coming.finish(who="anna", name=name, said=said)
    (path,) = incoming.glob(f"anna/*/{name}")
    return path


def beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def test_what_is_said_of_a_file_may_hold_a_password_and_is_not_for_everybody(tmp_path: Path) -> None:
    path = uploaded(tmp_path, "mast.zip", {"device": "mast-7"})
    first = beside(path).stat().st_mode
    tell(tmp_path, str(path), {"password": "secret"})
    assert orjson.loads(beside(path).read_bytes()) == {"device": "mast-7", "password": "secret"}
    for mode in (path.stat().st_mode, first, beside(path).stat().st_mode):
        assert stat.S_IMODE(mode) & 0o007 == 0


@pytest.mark.parametrize("member", ["data.csv", "2026/mast!7.dat", "deep/" * 200 + "x.dat"])
def test_an_answer_about_an_archives_member_lies_beside_the_archive(tmp_path: Path, member: str) -> None:
    path = uploaded(tmp_path, "two!masts.zip", {})
    assert tell(tmp_path, f"{path}!{member}", {"device": "mast-7"}) == path
    assert orjson.loads(beside(path).read_bytes()) == {"device": "mast-7"}


@pytest.mark.parametrize(
    "source", ["", "gone.csv", "{outside}", "{outside}!x.csv", "{incoming}/../outside.csv", "a\0b"]
)
def test_what_does_not_wait_here_takes_no_answer(tmp_path: Path, source: str) -> None:
    outside, incoming = tmp_path / "outside.csv", tmp_path / "incoming"
    outside.write_text("x")
    uploaded(incoming, "mast.csv", {})
    with pytest.raises(Refused, match="does not wait here"):
        tell(incoming, source.format(outside=outside, incoming=incoming), {"device": "mast-7"})
    assert not beside(outside).exists()

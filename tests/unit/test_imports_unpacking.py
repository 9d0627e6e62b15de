"""Compressed files and archives: opened as streams, bounded, refused by name."""

import bz2
import gzip
import io
import lzma
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import pyzipper
from small_disk import make_room, small_disk

from producers.imports import unpacking
from producers.imports.archive import Archive
from producers.imports.unpacking import Found, NeedsPassword, copy, members
from producers.spool import DiskTrouble
from schemas.errors import Refused


def unpacked(found: Found, *, password: str | None = None) -> bytes:
    into = io.BytesIO()
    copy(found, into, password=password, told=lambda _: None)
    return into.getvalue()


TEXT = b'"TOA5","mast"\r\n' * 1000


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
def test_compressed_file_is_its_content(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"mast.dat{suffix}"
    path.write_bytes(pack(TEXT))
    (found,) = members(path)
    assert found.name == "mast.dat"
    assert unpacked(found) == TEXT


def test_members_of_a_zip_are_files_and_litter_is_none(tmp_path: Path) -> None:
    path = tmp_path / "masts.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("2016/mast.dat", "2017/mast.dat", "__MACOSX/mast.dat", "2017/.hidden"):
            archive.writestr(name, TEXT)
    found = members(path)
    assert [one.member for one in found] == ["2016/mast.dat", "2017/mast.dat"]
    assert found[0].source.endswith("masts.zip!2016/mast.dat")
    assert unpacked(found[1]) == TEXT


@pytest.mark.parametrize("encryption", [pyzipper.WZ_AES, None])
def test_locked_zip_wants_its_password(tmp_path: Path, encryption: object) -> None:
    path = tmp_path / "mast.zip"
    if encryption is None:
        path.write_bytes(_zipcrypto("mast.dat", TEXT, b"secret"))
    else:
        with pyzipper.AESZipFile(path, "w", compression=zipfile.ZIP_DEFLATED, encryption=encryption) as archive:
            archive.setpassword(b"secret")
            archive.writestr("mast.dat", TEXT)
    (found,) = members(path)
    with pytest.raises(NeedsPassword, match="is locked"):
        unpacked(found)
    with pytest.raises(NeedsPassword, match="not the right one"):
        unpacked(found, password="wrong")
    assert unpacked(found, password="secret") == TEXT


def _zipcrypto(name: str, data: bytes, password: bytes) -> bytes:
    """An archive in the old way of locking, which no library here writes."""
    table = [0] * 256
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ 0xEDB88320 if value & 1 else value >> 1
        table[index] = value
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(byte: int) -> None:
        keys[0] = (keys[0] >> 8) ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = (keys[2] >> 8) ^ table[(keys[2] ^ (keys[1] >> 24)) & 0xFF]

    for byte in password:
        update(byte)
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, data)
    raw = bytearray(plain.getvalue())
    crc = int.from_bytes(raw[14:18], "little")
    locked = bytearray()
    for byte in bytes(11) + bytes([crc >> 24]) + data:
        temp = (keys[2] | 2) & 0xFFFF
        locked.append(byte ^ ((temp * (temp ^ 1) >> 8) & 0xFF))
        update(byte)
    start = 30 + len(name)
    central = raw.index(b"PK\x01\x02")
    head, tail = raw[:start], raw[central:]
    size = (len(data) + 12).to_bytes(4, "little")
    head[6] |= 1
    head[18:22] = size
    tail[8] |= 1
    tail[20:24] = size
    end = tail.index(b"PK\x05\x06")
    tail[end + 16 : end + 20] = (start + len(locked)).to_bytes(4, "little")
    return bytes(head + locked + tail)


def test_zip_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "RATIO_FROM_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mast.dat", b"\0" * (64 << 20))
    archive_folder = tmp_path / "archive"
    with pytest.raises(Refused, match="more than 500 times its size"):
        Archive(archive_folder).keep(members(path)[0])
    assert not [each for each in archive_folder.rglob("*") if each.is_file()]


def test_sizes_are_counted_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", 1 << 20)
    path = tmp_path / "mast.dat.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 8192, compresslevel=1))
    with pytest.raises(Refused, match="unpacks to more than"):
        unpacked(Found(path))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_broken_and_nested_files_are_refused_by_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "mast.dat.gz"
    whole = pack(TEXT * 20)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refused, match=r"mast\.dat\.gz is broken"):
        unpacked(Found(path))
    path.write_bytes(pack(gzip.compress(TEXT)))
    with pytest.raises(Refused, match="holds another packed file"):
        unpacked(Found(path))


def test_archive_keeps_a_content_once_under_its_hash(tmp_path: Path) -> None:
    one, other = tmp_path / "a.dat", tmp_path / "b.dat.gz"
    one.write_bytes(TEXT)
    other.write_bytes(gzip.compress(TEXT))
    archive = Archive(tmp_path / "archive")
    kept, again = archive.keep(Found(one)), archive.keep(Found(other))
    assert (kept.sha256, kept.path, kept.size) == (again.sha256, again.path, len(TEXT))
    assert kept.path.read_bytes() == TEXT
    assert archive.find(kept.sha256[:12]).path == kept.path


def test_disk_that_is_full_is_the_archives_trouble_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    one = tmp_path / "a.dat.gz"
    one.write_bytes(gzip.compress(secrets.token_bytes(4_000_000)))
    with small_disk(tmp_path / "disk", "1m") as small:
        with pytest.raises(DiskTrouble, match=r"archive .*No space left"):
            Archive(small).keep(Found(one))
        assert not [path for path in small.rglob("*") if path.is_file()]
        make_room(small, "16m")
        assert Archive(small).keep(Found(one)).size == 4_000_000


def test_growing_copy_gets_its_hash_at_the_end_and_bytes_are_written_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.grow("key", TEXT[:100], at=0)
    archive.grow("key", TEXT[50:300], at=50)
    kept = archive.finish("key")
    assert kept is not None
    assert kept.path.read_bytes() == TEXT[:300]
    with pytest.raises(Refused, match="are missing"):
        archive.grow("key", TEXT[500:], at=500)

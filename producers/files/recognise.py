"""Which format a file is, by its content. Knows first bytes; what is not read is refused by name with the next step."""

from collections.abc import Callable, Sequence

from producers.files.described import Described, Description
from producers.files.hoboware import Hoboware, is_hobo
from producers.files.lines import Readable, decode, encoding_of, head
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.mixed_array import MixedArray, is_mixed_array
from producers.files.nrg import Nrg, is_nrg
from producers.files.nrg_retriever import NrgRetriever, is_retriever
from producers.files.refusal import RefusedAt
from producers.files.toa5 import MARKS, Toa5, Toaci1, is_toa5, is_toaci1
from producers.files.tob import Tob1, Tob3, is_tob
from producers.files.windographer import Windographer, is_windographer
from schemas.errors import Refused

DESCRIBE = "describe its columns in a small TOML and give it with --description (producers/README.md shows one)"

KNOWN = "Campbell's, NRG's, Onset's and Windographer's text and TOB are known"

# First bytes of what is no text, and what to do about it.
_BINARY = (
    (
        b"PK\x03\x04",
        "an Excel workbook or a zip archive",
        "save the sheet as CSV, or unpack the archive, and send that",
    ),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV and send that"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it (gunzip) and send what is in it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it (unxz) and send what is in it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it and send what is in it"),
    (b"%PDF", "a PDF", "send the logger's own file"),
    (b"\x89PNG", "a picture (PNG)", "send the logger's own file"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "send the logger's own file"),
    (b"HOBO\x88", "Onset's own binary file", "export it to text in HOBOware (or HOBOconnect) and send that"),
    (b"GIF8", "a picture (GIF)", "send the logger's own file"),
    (b"II*\0", "a picture (TIFF)", "send the logger's own file"),
    (b"MM\0*", "a picture (TIFF)", "send the logger's own file"),
)
_ENCRYPTED = {
    ".rld": ("an encrypted NRG SymphoniePRO file", "export it to text with NRG's SymphoniePRO Desktop or nrgpy"),
    ".rwd": ("an encrypted NRG Symphonie file", "export it to text with NRG's Symphonie Data Retriever or nrgpy"),
}
# First words of texts that are known and not read yet.
_KNOWN = (
    (("TOB2",), "Campbell TOB2", "convert it to TOA5 with CardConvert and send that"),
    (("<?xml", "<csixml"), "XML", "have the logger's software write text: Campbell's TOA5, or CSV"),
    (("<!DOCTYPE html", "<html"), "a web page", "send the logger's own file"),
)


def recognise(path: Readable, description: Description | None = None, *, told: Stamping | None = None) -> LoggerFile:
    """The opened file; `told` is what was said of its stamps, by option or configuration.

    Raises `Refused` for a file that is none, empty, binary, encrypted or unknown.
    """
    first = head(path)
    name = path.name
    if not first.strip():
        raise Refused(f"{name} is empty")
    for word, known, step in _named(path, first):
        raise Refused(f"{name} is {known} ({word}): {step}")
    whole = decode(first, None).lstrip("\ufeff")
    if "\n" not in whole:  # as `blocks` has it
        whole = whole.replace("\r", "\n")
    text = whole.lstrip(MARKS)
    # A broken row below such a header is a problem of that row.
    marked = is_toa5(text) or is_toaci1(text) or is_tob(text) or is_nrg(text)
    if b"\0" in first[:4096] and not marked and not encoding_of(first).startswith("utf-16"):
        raise Refused(f"{name} is binary and of no known format: export it from the logger's software as text")
    if description is not None and not description.only_codes:
        opened = MixedArray(path, description) if description.arrays else Described(path, description)
        opened.tally.codes = description.codes([column.name for column in opened.columns])
        return opened
    file = _known(path, text, whole, told)
    if description is not None:
        _check_there(name, file, [str(each.name) for each in description.columns])
        file.tally.codes = description.codes()
    return file


def _check_there(name: str, file: LoggerFile, wanted: Sequence[str]) -> None:
    """Raises `RefusedAt` for a column of which the description says what is missing, and the file has none."""
    there = [column.name for column in file.columns]
    for each in wanted:
        if each not in there and not file.questions:
            raise RefusedAt(
                name, 1, f"column {each!r} of the description is not there; there are {', '.join(there[:40])}"
            )


def _known(path: Readable, text: str, whole: str, told: Stamping | None) -> LoggerFile:
    """Of a known format. Raises `Refused`."""
    name = path.name
    for words, known, step in _KNOWN:
        if text.startswith(words):
            raise Refused(f"{name} is {known}: {step}")
    for is_one, opened in _FORMATS:
        if is_one(whole if is_one is is_hobo else text):  # its first cell may be quoted, with the delimiter in it
            try:
                return opened(path, told)
            except RefusedAt as error:
                step = "convert it to TOA5 with CardConvert" if is_tob(text) else DESCRIBE
                what = f"{error.what}; get the file from its logger or program again, or {step}"
                raise RefusedAt(name, error.line, what) from None
    begins = (whole.splitlines() or [""])[0][:60]
    raise RefusedAt(name, 1, f"of no known format ({KNOWN}; it begins with {begins!r}): {DESCRIBE}")


GROWING = ("toa5", "described")
"""Formats whose files grow line by line below one header of known length, so that they can be followed."""

Opened = Callable[[Readable, Stamping | None], LoggerFile]

_FORMATS: tuple[tuple[Callable[[str], object], Opened], ...] = (
    (is_toa5, Toa5),
    (is_toaci1, Toaci1),
    (lambda text: is_tob(text) == "TOB1", lambda path, _: Tob1(path)),
    (lambda text: is_tob(text) == "TOB3", lambda path, _: Tob3(path)),
    (is_nrg, Nrg),
    (is_retriever, NrgRetriever),
    (is_windographer, Windographer),
    (is_hobo, Hoboware),
    (is_mixed_array, lambda path, _: MixedArray(path)),
)


def _named(path: Readable, first: bytes) -> list[tuple[str, str, str]]:
    found = [("by its first bytes", known, step) for magic, known, step in _BINARY if first.startswith(magic)]
    suffix = path.suffix.lower()
    if suffix in _ENCRYPTED and not _is_text(first):
        return [(f"by its name *{suffix}", *_ENCRYPTED[suffix])]
    return found


def _is_text(first: bytes) -> bool:
    return first.isascii() and b"\0" not in first

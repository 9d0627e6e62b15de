"""Which format a file is, by its content. Knows first bytes; what is not read is refused by name with the next step."""

from producers.files.described import Described, Description
from producers.files.lines import Readable, decode, head
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.nrg import Nrg, is_nrg
from producers.files.toa5 import MARKS, Toa5, is_toa5
from producers.files.tob import Tob1, Tob3, is_tob
from schemas.errors import Refused

DESCRIBE = "describe its columns in a small TOML and give it with --description (producers/README.md shows one)"

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
)
_ENCRYPTED = {
    ".rld": ("an encrypted NRG SymphoniePRO file", "export it to text with NRG's SymphoniePRO Desktop or nrgpy"),
    ".rwd": ("an encrypted NRG Symphonie file", "export it to text with NRG's Symphonie Data Retriever or nrgpy"),
}
# First words of texts that are known and not read yet.
_KNOWN = (
    (("TOB2",), "Campbell TOB2", "convert it to TOA5 with CardConvert and send that"),
    (("Plot Title:", "Plot-Titel:"), "a HOBOware export", DESCRIBE),
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
    text = decode(first, None).lstrip(MARKS)
    for words, known, step in _KNOWN:
        if text.startswith(words) and description is None:
            raise Refused(f"{name} is {known}: {step}")
    if is_toa5(text) and description is None:
        return Toa5(path)
    if (tob := is_tob(text)) and description is None:
        return Tob1(path) if tob == "TOB1" else Tob3(path)
    if is_nrg(text) and description is None:
        return Nrg(path)
    if b"\0" in first[:4096]:
        raise Refused(f"{name} is binary and of no known format: export it from the logger's software as text")
    if description is not None:
        return Described(path, description)
    if "by Windographer" in text[:200]:
        raise Refused(f"{name} is a Windographer export: {DESCRIBE}")
    raise Refused(f"{name} is of no known format (its first line: {text.splitlines()[0][:60]!r}): {DESCRIBE}")


def _named(path: Readable, first: bytes) -> list[tuple[str, str, str]]:
    found = [("by its first bytes", known, step) for magic, known, step in _BINARY if first.startswith(magic)]
    suffix = path.suffix.lower()
    if suffix in _ENCRYPTED and not _is_text(first):
        return [(f"by its name *{suffix}", *_ENCRYPTED[suffix])]
    return found


def _is_text(first: bytes) -> bool:
    return first.isascii() and b"\0" not in first

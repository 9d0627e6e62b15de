"""A logger file's rows as plain CSV: time, then one column a channel. Knows no device; stamps stay the file's own."""

from collections.abc import Iterator

from producers.files.logger_file import Kind, LoggerFile


def csv_lines(file: LoggerFile) -> Iterator[str]:
    """Header and rows; a missing reading is an empty cell. Raises `Refused` as the file does."""
    names = [column.name for column in file.columns if column.kind is Kind.VALUE]
    yield ",".join(_cell(name) for name in ["time", *names])
    for chunk in file.chunks(lambda column: column.name):
        places = {name: at for at, name in enumerate(chunk.columns)}
        order = [places.get(name) for name in names]
        at = chunk.stamps.astype("datetime64[us]")
        whole = not (chunk.stamps % 1_000_000).any()
        stamps = (at.astype("datetime64[s]") if whole else at).astype(str).tolist()
        for stamp, values in zip(stamps, chunk.values.tolist(), strict=True):
            cells = ("" if at is None or values[at] != values[at] else repr(values[at]) for at in order)
            yield ",".join([stamp, *cells])


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text

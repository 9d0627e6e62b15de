"""A text table whose dates may be written in any order: proven by its rows, told, or asked. See `dates.py`."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from producers.files.dates import parts_of, proven_order, stamps_in, without_offset
from producers.files.lines import Readable, blocks, cells
from producers.files.logger_file import Stamping
from producers.files.numbers import iso_stamps
from producers.files.table import ROWS_SNIFFED, Layout
from producers.files.text_table import Header, TextTable

SNIFFED_BYTES = 1 << 16  # at a time: mostly the first stamp says it
_WORDS = {"d": "day", "m": "month", "y": "year"}


class DatedTable(TextTable):
    """Base of formats without a fixed order of day, month and year. See `LoggerFile`."""

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        self._told_order = told.date_order if told else None
        self._order: str | None = None
        self.stamp_zone: int | None = None
        """Of stamps that say it themselves."""
        super().__init__(path)
        example, self.stamp_zone = self._example()
        if not example:
            return
        if not iso_stamps([example])[1]:
            if self.stamp_zone is not None:
                self._order = "ymd"
                layout = self.dated(self.first.layout)
            else:
                layout = replace(self.first.layout, stamps=stamps_in("ymd"))  # an hour may have one digit further down
            self.first = Header(self.first.identity, layout, self.first.lines)
            return
        found = (self._told_order,) if self._told_order else proven_order(self._stamp_texts())
        if len(found) != 1:
            spelled = " or ".join("-".join(_WORDS[letter] for letter in order) for order in found)
            self.questions = (f"is {example!r} written {spelled}? --date-order {'|'.join(found)}",)
        self._order = found[0]
        self.first = Header(self.first.identity, self.dated(self.first.layout), self.first.lines)

    def _example(self) -> tuple[str, int | None]:
        """A stamp of the first rows, and minutes of the offset behind it; one year first if there is any such."""
        found = [without_offset(text) for text in islice(self._stamp_texts(), ROWS_SNIFFED)]
        iso = next((each for each in found if not iso_stamps(each[:1])[1]), None)
        return iso or next((each for each in found if parts_of(each[0]) is not None), ("", None))

    def _stamp_texts(self) -> Iterator[str]:
        """Cells of the stamp in file order."""
        layout, header = self.first.layout, self.first.lines
        for block in blocks(self._path, size=SNIFFED_BYTES):
            for row in cells(block.lines[max(0, header - block.first_line + 1) :], layout.delimiter):
                if len(row) > max(layout.stamp_places):
                    text = " ".join(row[at].strip() for at in layout.stamp_places).strip()
                    if text:
                        yield text if self.stamp_zone is None else without_offset(text)[0]

    def next_header(self, lines: list[str], line: int) -> Header | None:
        header = super().next_header(lines, line)
        return None if header is None else Header(header.identity, self.dated(header.layout), header.lines)

    def dated(self, layout: Layout) -> Layout:
        """With stamps in the order that is known by now."""
        if self._order is None:
            return layout
        spelled = "-".join(_WORDS[letter] for letter in self._order)
        form = f"{spelled} hours:minutes{'' if self.stamp_zone is None else ' and an offset'}"
        return replace(layout, stamps=stamps_in(self._order, zone=self.stamp_zone), iso=False, stamp_form=form)

    def zoned_by_stamps(self, said: Stamping) -> Stamping:
        """What the header says, and the stamps of what it does not."""
        return said if said.utc_offset_minutes is not None else replace(said, utc_offset_minutes=self.stamp_zone)

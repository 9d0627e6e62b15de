"""The columns of an export: of which sensors and figures, in which order, called what. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from dashboard.exports.labels import label, plain
from dashboard.exports.request import ExportRequest, Figure, Format, Interval
from schemas.devices import DIRECTIONS

QUANTITY_RANK = {"wind_speed": 0, "wind_direction": 1, "vertical_wind_speed": 2, "air_temperature": 3}
STATISTIC_RANK = {name: rank for rank, name in enumerate(("avg", "sd", "min", "max", "gust", "ti", "sum"))}
CONTINUES = {"max": Figure.MAX, "gust": Figure.MAX, "min": Figure.MIN, "sum": Figure.SUM, "count": Figure.SUM}
"""The figure of a longer interval that continues a channel's own statistic; of all others the mean."""

STAMPS = ("time", "Date/Time")
"""What the column of stamps is called."""
FORMULA = ("=", "+", "-", "@")
"""How what a spreadsheet computes begins, which may start a program; a logger's file named the channel."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the file."""

    sensor_id: int
    device_id: str
    channel: str
    point: str | None
    quantity: str | None
    unit: str | None
    statistic: str | None
    height_m: float | None
    boom_orientation_deg: float | None
    figure: Figure | None = None
    is_own: bool = True
    """The figure is the one that continues the channel's own statistic, and was not asked for."""
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.device_id}/{self.channel}"

    @property
    def is_angle(self) -> bool:
        """As the database's `is_angle` has it: the deviation of a direction is none."""
        return self.quantity in DIRECTIONS and self.statistic in {"avg", "min", "max", "gust", "median", "mode"}


def columns_of(rows: Iterable[dict[str, Any]], request: ExportRequest) -> tuple[Column, ...]:
    """Columns of these sensors, each row with the fields of `Column` that the database knows."""
    return _labelled(_ordered(_columns(rows, request), request), request)


def _columns(rows: Iterable[dict[str, Any]], request: ExportRequest) -> list[Column]:
    columns = []
    for row in rows:
        column = Column(**{name: row[name] for name in Column.__slots__ if name in row})
        if request.interval is Interval.AS_LOGGED:
            columns.append(column)
            continue
        own = CONTINUES.get(column.statistic or "", Figure.MEAN)
        if column.is_angle:
            own = Figure.MEAN
        figures = dict.fromkeys(request.figures or (own,))
        columns += [
            replace(column, figure=figure, is_own=not request.figures)
            for figure in figures
            if not _means_nothing(column, figure)
        ]
    return columns


def _means_nothing(column: Column, figure: Figure) -> bool:
    return column.is_angle and figure in (Figure.MIN, Figure.MAX, Figure.SUM)


def _ordered(columns: list[Column], request: ExportRequest) -> list[Column]:
    """As asked for by name; else by device, quantity, height from the top, point, statistic."""
    places = {name: place for place, name in enumerate(request.sensors)}

    def key(column: Column) -> tuple[Any, ...]:
        return (
            min(places.get(column.name, len(places)), places.get(column.channel, len(places))),
            column.device_id,
            QUANTITY_RANK.get(column.quantity or "", len(QUANTITY_RANK)),
            column.quantity or "~",
            -column.height_m if column.height_m is not None else 1e9,
            column.point or "",
            STATISTIC_RANK.get(column.statistic or "", len(STATISTIC_RANK)),
            column.channel,
        )

    return sorted(columns, key=key)


def _labelled(columns: list[Column], request: ExportRequest) -> tuple[Column, ...]:
    """Each with a name of its own."""
    several = len({column.device_id for column in columns}) > 1
    texts = [label(column, request.column_labels, with_device=False) for column in columns]
    if several:
        texts = [
            label(column, request.column_labels, with_device=texts.count(text) > 1)
            for column, text in zip(columns, texts, strict=True)
        ]
    texts = [_written(text, request) for text in texts]
    for place, column in enumerate(columns):
        is_taken = texts[place] in STAMPS and request.format is not Format.IEA43  # whose model names columns
        if texts.count(texts[place]) > 1 or is_taken:
            texts[place] = _written(plain(f"{texts[place]} ({column.name})"), request)
    return tuple(replace(column, label=text) for column, text in zip(columns, texts, strict=True))


def _written(text: str, request: ExportRequest) -> str:
    """As a line of names can hold it: no separator where nothing quotes one, and nothing that spreadsheets compute."""
    if request.format in (Format.PARQUET, Format.IEA43):
        return text
    if request.format is not Format.CSV:
        text = " ".join(text.replace(request.cell_separator, " ").split())
    return f"'{text}" if text.startswith(FORMULA) else text

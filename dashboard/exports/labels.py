"""What columns are called. Pure: facts of a channel in, a name out.

Described names say height, kind and unit in the words from which Windographer tells a column's type and height.
"""

from typing import TYPE_CHECKING

from dashboard.exports.request import SUFFIX, ExportRequest, Figure, Labels

if TYPE_CHECKING:
    from dashboard.exports.columns import Column

QUANTITIES = {
    "wind_speed": "Speed",
    "wind_direction": "Direction",
    "vertical_wind_speed": "Vertical Speed",
    "air_temperature": "Temperature",
    "temperature": "Temperature",
    "water_temperature": "Water Temperature",
    "air_pressure": "Pressure",
    "pressure": "Pressure",
    "relative_humidity": "Relative Humidity",
    "air_density": "Air Density",
    "precipitation": "Precipitation",
    "voltage": "Voltage",
    "global_horizontal_irradiance": "Solar Radiation",
}
STATISTICS = {"avg": "", "sd": "SD", "max": "Max", "min": "Min", "gust": "Gust", "sum": "Total", "ti": "TI"}
FIGURES = {
    Figure.MEAN: "",
    Figure.SD: "SD",
    Figure.MIN: "Min",
    Figure.MAX: "Max",
    Figure.SUM: "Total",
    Figure.COUNT: "Count",
}
UNITS = {"deg_C": "degC", "deg_F": "degF", "°C": "degC", "°F": "degF", "°": "deg"}
POINTS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
ASCII = str.maketrans({"°": "deg", "²": "2", "³": "3", "µ": "u", "μ": "u"})


def label(column: "Column", labels: Labels, *, with_device: bool) -> str:
    """A column's name, without tabs, quotes or what is not ASCII."""
    if labels is Labels.DESCRIBED and column.quantity:
        text = _described(column)
        if with_device:
            text = f"{column.device_id} {text}"
    else:
        text = f"{column.device_id}/{column.channel}" if with_device else column.channel
        if not column.is_own:
            text += f"_{column.figure}"
        if labels is not Labels.BARE:
            text += _unit(column)
    return plain(text)


def file_name(request: ExportRequest) -> str:
    """What an export's file is called where nobody says it: after what it is about."""
    name = plain(request.subject).replace("/", "_").replace("?", "_").replace("*", "").strip(". ") or "export"
    return f"{name}{SUFFIX[request.format]}"


def plain(text: str) -> str:
    """Printable ASCII on one line."""
    text = " ".join(text.translate(ASCII).split())
    return "".join(letter if " " <= letter <= "~" and letter != '"' else "?" for letter in text)


def _described(column: "Column") -> str:
    quantity = column.quantity or ""
    words = [QUANTITIES.get(quantity, quantity.replace("_", " ").title())]
    if column.height_m is not None:
        words.append(f"{column.height_m:g}m")
    if column.boom_orientation_deg is not None:
        words.append(POINTS[round(column.boom_orientation_deg / 45) % 8])
    statistic = column.statistic or ""
    words.append(STATISTICS.get(statistic, statistic.title()))
    if column.figure is not None and FIGURES[column.figure] != words[-1]:
        words.append(FIGURES[column.figure])
    return " ".join(word for word in words if word) + _unit(column)


def _unit(column: "Column") -> str:
    if column.figure is Figure.COUNT:
        return " [-]"
    unit = UNITS.get(column.unit or "", column.unit or "")
    return f" [{unit}]" if unit else ""

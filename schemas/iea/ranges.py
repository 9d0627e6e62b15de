"""Gross ranges that a sensor has unless somebody sets others. Data; the sources are named beside each line.

A range holds for calibrated values in the unit named. Only statistics that are values of the quantity itself get one:
a standard deviation, a sum or a count has other bounds. A quantity or a unit that is not here gets none.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from schemas.limits import GrossRange, Limits

Range = tuple[float, float]
_MEANS: Final = ("avg", "median", "mode", "min")
_PEAKS: Final = ("max", "gust")

# (quantity, unit, statistics): fail, suspect (None: the same)
_TABLE: Final[tuple[tuple[str, str, tuple[str, ...], Range, Range | None], ...]] = (
    # Anemometers are specified up to 75 m/s; a ten-minute mean above 50 m/s is a category 4 hurricane.
    ("wind_speed", "m/s", _MEANS, (0, 75), (0, 50)),
    # The highest gust ever measured near the ground was 113 m/s (Barrow Island, 1996).
    ("wind_speed", "m/s", _PEAKS, (0, 115), (0, 75)),
    ("wind_speed", "mph", _MEANS, (0, 168), (0, 112)),
    ("wind_speed", "mph", _PEAKS, (0, 258), (0, 168)),
    ("wind_speed", "knots", _MEANS, (0, 146), (0, 98)),
    ("wind_speed", "knots", _PEAKS, (0, 224), (0, 146)),
    ("vertical_wind_speed", "m/s", (*_MEANS, *_PEAKS), (-50, 50), (-15, 15)),
    ("wind_direction", "deg", (*_MEANS, *_PEAKS), (0, 360), None),
    # Surface records: -89 and 57 degrees; masts do not stand where it is coldest.
    ("air_temperature", "deg_C", (*_MEANS, *_PEAKS), (-60, 60), (-45, 50)),
    ("air_temperature", "K", (*_MEANS, *_PEAKS), (213.15, 333.15), (228.15, 323.15)),
    ("air_temperature", "deg_F", (*_MEANS, *_PEAKS), (-76, 140), (-49, 122)),
    # Probes read up to 105 in saturated air.
    ("relative_humidity", "%", (*_MEANS, *_PEAKS), (0, 105), None),
    # 500 hPa: 5,500 m above the sea; 1085 hPa: the record.
    ("air_pressure", "hPa", (*_MEANS, *_PEAKS), (500, 1100), (600, 1085)),
    ("air_pressure", "mbar", (*_MEANS, *_PEAKS), (500, 1100), (600, 1085)),
    ("air_pressure", "mmHg", (*_MEANS, *_PEAKS), (375, 825), (450, 814)),
    ("air_pressure", "inHg", (*_MEANS, *_PEAKS), (14.8, 32.5), (17.7, 32.05)),
    ("air_pressure", "atm", (*_MEANS, *_PEAKS), (0.49, 1.09), (0.59, 1.071)),
    # Thermal offsets at night reach some -10; under broken clouds up to 1.6 times the clear sky.
    ("global_horizontal_irradiance", "W/m^2", (*_MEANS, *_PEAKS), (-20, 2000), (-10, 1600)),
)


def _read() -> Mapping[tuple[str, str, str], Limits]:
    return MappingProxyType(
        {
            (quantity, unit, statistic): Limits(gross_range=GrossRange(fail=fail, suspect=suspect))
            for quantity, unit, statistics, fail, suspect in _TABLE
            for statistic in statistics
        }
    )


RANGES: Final = _read()


def default_limits(quantity: str, unit: str, statistic: str) -> Limits:
    """The limits of a sensor that nobody has set limits for."""
    return RANGES.get((quantity, unit, statistic), Limits())

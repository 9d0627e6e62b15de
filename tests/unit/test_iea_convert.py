"""A WRA data model becomes devices: dated numbers, UTC, what a person adds, what is refused."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.devices import Calibration, Device, Sensor
from schemas.errors import Refused
from schemas.iea.convert import Answers, Imported, devices_of, slug
from schemas.json_file import JsonFile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEMO = json.loads((files("infra.demo") / "demo_mast.json").read_text())
CHANGE = datetime(2017, 1, 4, 18, tzinfo=UTC)
Edit = Callable[[dict[str, Any]], None]


def imported(edit: Edit = lambda location: None, **answers: Any) -> Imported:
    """The demo mast after an edit of its measurement location."""
    model = copy.deepcopy(DEMO)
    edit(model["measurement_location"][0])
    file = JsonFile(json.dumps(model, indent=1).encode(), name="mast.json")
    return devices_of(file, answers=Answers(configured_at=NOW, configured_by="test", **answers))


def device(edit: Edit = lambda location: None, **answers: Any) -> Device:
    return imported(edit, **answers).devices[0]


def sensor(channel: str, of: Device) -> Sensor:
    return next(one for one in of.sensors if one.channel == channel)


def point(location: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in location["measurement_point"] if one["name"] == name)


def four(calibration: Calibration) -> tuple[float | None, ...]:
    return calibration.logger_slope, calibration.logger_offset, calibration.slope, calibration.offset


def test_demo_mast_is_one_device_without_a_warning() -> None:
    result = imported()
    assert result.warnings == ()
    (mast,) = result.devices
    assert (mast.device_id, mast.station.station_id, len(mast.sensors)) == ("demo-mast", "demo-mast", 29)
    assert (mast.interval_s, mast.silence_limit_s) == (600, 1800)
    assert mast.exists_from == datetime(2016, 1, 9, 15, 30, tzinfo=UTC)
    assert (mast.loggers[0].utc_offset_minutes, mast.loggers[0].stamp) == (0, "begin")


def test_reprogramming_gives_two_intervals_that_meet() -> None:
    before, after = sensor("Spd40mS", device()).calibrations
    assert before.valid_to == after.valid_from == CHANGE
    assert four(before) == (0.0459, 0.2554, 0.04591, 0.25539)
    assert four(after) == (0.04591, 0.25539, 0.04591, 0.25539)


def test_last_minute_before_a_change_is_no_hole() -> None:
    before, after = sensor("Dir58mS", device()).calibrations
    assert before.valid_to == after.valid_from == CHANGE
    assert (before.serial, after.serial) == ("0587654", "0587655")


def test_hole_longer_than_a_step_stays_a_hole() -> None:
    def edit(location: dict[str, Any]) -> None:
        point(location, "Spd40mS")["logger_measurement_config"][0]["date_to"] = "2017-01-04T17:49:00"

    before, after = sensor("Spd40mS", device(edit)).calibrations
    assert before.valid_to == datetime(2017, 1, 4, 17, 49, tzinfo=UTC)
    assert after.valid_from == CHANGE


def test_vane_has_logger_offset_and_dead_band() -> None:
    (calibration,) = sensor("Dir78mS", device()).calibrations
    assert (calibration.logger_offset, calibration.dead_band_orientation_deg) == (180, 180)
    assert (calibration.slope, calibration.offset) == (None, None)


def test_sensor_without_certificate_has_no_numbers_to_calibrate_with() -> None:
    (calibration,) = sensor("T2m", device()).calibrations
    assert four(calibration) == (1, 0, None, None)
    assert four(sensor("BattMin", device()).calibrations[0]) == (None, None, None, None)


def test_ignored_and_text_columns_are_left_out() -> None:
    def edit(location: dict[str, Any]) -> None:
        columns = point(location, "Spd80mN")["logger_measurement_config"][0]["column_name"]
        columns[1]["is_ignored"] = True
        columns[2]["statistic_type_id"] = "text"

    channels = {one.channel for one in device(edit).sensors}
    assert "Spd80mN" in channels
    assert not channels & {"Spd80mNStd", "Spd80mNMax"}


def test_column_of_an_earlier_programme_keeps_only_its_own_interval() -> None:
    def edit(location: dict[str, Any]) -> None:
        configs = point(location, "Spd40mS")["logger_measurement_config"]
        configs[1]["column_name"] = [{"column_name": "CH14", "statistic_type_id": "avg"}]

    mast = device(edit)
    (former,) = sensor("Spd40mS", mast).calibrations
    (later,) = sensor("CH14", mast).calibrations
    assert (former.valid_to, later.valid_from, later.valid_to) == (CHANGE, CHANGE, None)


def test_sensitivity_stands_for_one_by_slope_with_offset_zero() -> None:
    def edit(location: dict[str, Any]) -> None:
        config = point(location, "Spd80mN")["logger_measurement_config"][0]
        config.update(slope=None, offset=None, sensitivity=8.0)

    assert four(sensor("Spd80mN", device(edit)).calibrations[0])[:2] == (0.125, 0)


def test_certificate_is_picked_by_measurement_type() -> None:
    def edit(location: dict[str, Any]) -> None:
        both = [
            {"measurement_type_id": "relative_humidity", "slope": 3, "offset": 4},
            {"measurement_type_id": "air_temperature", "slope": 1.5, "offset": 2},
        ]
        for name in ("T2m", "RH2m"):
            point(location, name)["sensor"][0]["calibration"] = both

    mast = device(edit)
    assert four(sensor("T2m", mast).calibrations[0]) == (1, 0, 1.5, 2)
    assert four(sensor("RH2m", mast).calibrations[0]) == (1, 0, 3, 4)


def test_certificate_without_measurement_type_is_the_sensors_only_one() -> None:
    def edit(location: dict[str, Any]) -> None:
        del point(location, "Spd80mS")["sensor"][0]["calibration"][0]["measurement_type_id"]

    assert device(edit) == device()


def test_certificate_for_another_quantity_does_not_count() -> None:
    def edit(location: dict[str, Any]) -> None:
        point(location, "Spd80mS")["sensor"][0]["calibration"][0]["measurement_type_id"] = "voltage"

    assert four(sensor("Spd80mS", device(edit)).calibrations[0])[2:] == (None, None)


def test_certificate_made_after_the_campaign_does_not_count() -> None:
    def edit(location: dict[str, Any]) -> None:
        certificates = point(location, "Spd80mS")["sensor"][0]["calibration"]
        certificates.append({**certificates[0], "slope": 9, "date_of_calibration": "2018-01-01"})
        certificates.append({**certificates[0], "slope": 8, "date_of_calibration": "2010-01-01"})

    assert sensor("Spd80mS", device(edit)).calibrations[0].slope == 0.84449


def test_logger_local_dates_land_on_utc() -> None:
    def edit(location: dict[str, Any]) -> None:
        location["logger_main_config"][0]["offset_from_utc_hrs"] = -5.5

    mast = device(edit)
    assert mast.loggers[0].utc_offset_minutes == -330
    assert mast.exists_from == datetime(2016, 1, 9, 21, tzinfo=UTC)
    assert sensor("Spd40mS", mast).calibrations[1].valid_from == datetime(2017, 1, 4, 23, 30, tzinfo=UTC)


def unsaid(location: dict[str, Any]) -> None:
    location["logger_main_config"][0].update(offset_from_utc_hrs=None, timestamp_is_end_of_period=None)


def test_what_the_file_does_not_say_stays_unknown_and_is_warned_of() -> None:
    result = imported(unsaid)
    logger = result.devices[0].loggers[0]
    assert (logger.utc_offset_minutes, logger.stamp) == (None, None)
    assert result.devices[0].exists_from == datetime(2016, 1, 9, 15, 30, tzinfo=UTC)
    (warning,) = result.warnings
    assert "telltale stations import mast.json --utc-offset HH:MM --stamp begin|end" in warning


def test_answers_fill_what_the_file_does_not_say() -> None:
    result = imported(unsaid, utc_offset_minutes=60, stamp="end", silence_limit_s=7200, device_id="m1")
    (mast,) = result.devices
    assert result.warnings == ()
    assert (mast.loggers[0].utc_offset_minutes, mast.loggers[0].stamp) == (60, "end")
    assert (mast.device_id, mast.silence_limit_s) == ("m1", 7200)
    assert mast.exists_from == datetime(2016, 1, 9, 14, 30, tzinfo=UTC)


def test_file_counts_more_than_an_answer() -> None:
    result = imported(utc_offset_minutes=60)
    assert result.devices[0].loggers[0].utc_offset_minutes == 0
    assert "it counts" in result.warnings[0]


def test_zone_in_dates_is_the_loggers_clock() -> None:
    def edit(location: dict[str, Any]) -> None:
        unsaid(location)
        location["logger_main_config"][0].update(date_from="2016-01-09T15:30:00+02:00")

    mast = device(edit)
    assert mast.loggers[0].utc_offset_minutes == 120
    assert mast.exists_from == datetime(2016, 1, 9, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(("former", "later"), [(-5, 0), (0, -5), (5, -3.5)])
def test_change_of_loggers_and_of_their_clocks_keeps_the_order_of_dates(former: float, later: float) -> None:
    def edit(location: dict[str, Any]) -> None:
        first = location["logger_main_config"][0]
        second = {**first, "logger_serial_number": "2", "date_from": "2017-01-04T18:00:00"}
        second["offset_from_utc_hrs"] = later
        first.update(date_to="2017-01-04T17:59:00", offset_from_utc_hrs=former)
        location["logger_main_config"].append(second)

    mast = device(edit)
    assert mast.loggers[0].valid_to == mast.loggers[1].valid_from
    before, after = sensor("Spd40mS", mast).calibrations
    assert before.valid_to == after.valid_from == mast.loggers[1].valid_from


def test_older_name_of_the_logger_configuration_is_read() -> None:
    def edit(location: dict[str, Any]) -> None:
        for one in location["measurement_point"]:
            one["sensor_config"] = one.pop("logger_measurement_config")

    assert device(edit) == device()


def test_distant_end_means_still_valid() -> None:
    def edit(location: dict[str, Any]) -> None:
        location["logger_main_config"][0]["date_to"] = "2100-01-01T00:00:00"
        point(location, "Spd80mN")["sensor"][0]["date_to"] = "2100-01-01T00:00:00"

    assert device(edit) == device()


def test_gross_range_follows_quantity_unit_and_statistic() -> None:
    mast = device()
    assert sensor("P2m", mast).limits.gross_range is not None
    assert sensor("Spd80mNStd", mast).limits.gross_range is None
    gross = sensor("Spd80mN", mast).limits.gross_range
    assert gross is not None
    assert (gross.fail, gross.suspect) == ((0, 75), (0, 50))


def test_device_survives_the_wire() -> None:
    mast = device()
    codec = Codec()
    assert codec.decode(Device, codec.encode(mast)) == mast


def test_two_locations_are_two_devices() -> None:
    model = {"measurement_location": [*DEMO["measurement_location"]] * 2}
    model["measurement_location"][1] = {**DEMO["measurement_location"][0], "name": "Zweiter Mast Süd"}
    file = JsonFile(json.dumps(model).encode(), name="mast.json")
    result = devices_of(file, answers=Answers(configured_at=NOW, configured_by="test"))
    assert [one.device_id for one in result.devices] == ["demo-mast", "zweiter-mast-sud"]
    with pytest.raises(Refused, match="2 locations"):
        devices_of(file, answers=Answers(configured_at=NOW, configured_by="test", device_id="one"))


def put(value: Any, *path: str | int) -> Edit:
    def edit(location: dict[str, Any]) -> None:
        at: Any = location
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return edit


CONFIGS = ("measurement_point", 5, "logger_measurement_config")
CERTIFICATES = ("measurement_point", 2, "sensor", 0, "calibration")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("x", *CERTIFICATES, 0, "slope"), 'sensor[0].calibration[0].slope must be a number, got "x" (line '),
        (put(True, *CERTIFICATES, 0, "slope"), "calibration[0].slope must be a number, got true"),
        (put(0, *CERTIFICATES, 0, "slope"), "calibration[0].slope must not be 0"),
        (put({}, *CERTIFICATES), "sensor[0].calibration must be a list, got {}"),
        (put([{}, {}], *CERTIFICATES), "calibration [0] must say its measurement_type_id, because there are 2"),
        (
            put([{"measurement_type_id": "wind_speed"}] * 2, *CERTIFICATES),
            "has 2 entries for wind_speed, and their date_of_calibration does not tell",
        ),
        (put("2017-13-01T00:00:00", *CONFIGS, 1, "date_from"), "[1].date_from must be a date and time such as"),
        (put("2017-01-04", *CONFIGS, 1, "date_from"), "[1].date_from must be a date and time such as"),
        (put(1483552800, *CONFIGS, 1, "date_from"), "[1].date_from must be a date and time such as"),
        (put("2016-12-01T00:00:00", *CONFIGS, 1, "date_from"), "must not be before the end of entry [0]"),
        (put(None, *CONFIGS, 0, "date_to"), "must not be before the end of entry [0], which has no end"),
        (put("2015-01-01T00:00:00", *CONFIGS, 0, "date_to"), "[0].date_to must not be before its date_from"),
        (put("2017-01-04T18:00:00+01:00", *CONFIGS, 1, "date_from"), "must have no zone or the logger's"),
        (put("avgg", *CONFIGS, 0, "column_name", 0, "statistic_type_id"), 'got "avgg"; did you mean "avg"?'),
        (put("sd", *CONFIGS, 1, "column_name", 0, "statistic_type_id"), 'must stay "avg" for column "Spd40mS"'),
        (put("knots", *CONFIGS, 1, "measurement_units_id"), 'must stay "m/s" for column "Spd40mS"'),
        (put("Spd80mN", *CONFIGS, 1, "column_name", 0, "column_name"), "belongs to Spd80mN already"),
        (put("wind_sped", "measurement_point", 0, "measurement_type_id"), 'did you mean "wind_speed"?'),
        (put(361, "measurement_point", 0, "mounting_arrangement", 0, "boom_orientation_deg"), "must be 360 or less"),
        (put("80", "measurement_point", 0, "height_m"), 'measurement_point[0].height_m must be a number, got "80"'),
        (put([], "measurement_point"), "measurement_point has no column with numbers to import"),
        (put(91, "latitude_ddeg"), "latitude_ddeg must be 90 or less, got 91"),
        (put("日本", "name"), "name gives no device id; give one (--device ID)"),
        (put("x" * 300, "name"), "name must have 256 characters or fewer"),
        (put(5.123, "logger_main_config", 0, "offset_from_utc_hrs"), "must be a whole number of minutes"),
        (put(0, "logger_main_config", 0, "averaging_period_minutes"), "averaging_period_minutes must be"),
        (put("yes", "logger_main_config", 0, "timestamp_is_end_of_period"), "must be true or false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_values_are_refused_with_path_and_line(edit: Edit, message: str) -> None:
    with pytest.raises(Refused) as refused:
        imported(edit)
    told = str(refused.value)
    assert told.startswith("mast.json: measurement_location[0].")
    assert message in told
    assert "(line " in told


def test_slug_is_readable_and_short() -> None:
    assert slug("Demo Mast") == "demo-mast"
    assert slug("  Großer Mast, 80 m (Süd) ") == "grosser-mast-80-m-sud"
    assert len(slug("x" * 500)) == 128

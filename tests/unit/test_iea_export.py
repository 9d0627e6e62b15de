"""Configurations leave as data models, and come back as they were; certificates are put to sensors from a day on."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from producers.stations.calibrations.dating import calibrated, dated, sensors_of
from schemas.devices import Calibration, Device
from schemas.errors import Refused
from schemas.iea.certificate import Certificate, read_certificate
from schemas.iea.convert import Answers, devices_of
from schemas.iea.export import model_of
from schemas.json_file import JsonFile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANSWERS = Answers(configured_at=NOW, configured_by="anna")
SAMPLES = Path("/work/shared/samples")
SCHEMA = SAMPLES / "iea43_wra_data_model.schema.json"
FULL = SAMPLES / "iea43_wra_data_model_full_example.json"


def devices(model: Any) -> tuple[Device, ...]:
    return devices_of(JsonFile(json.dumps(model).encode(), name="model.json"), answers=ANSWERS).devices


def demo() -> Any:
    return json.loads((files("infra.demo") / "demo_mast.json").read_text())


def exported(*given: Device) -> Any:
    return model_of(given, author="anna", organisation="-", today=date(2026, 1, 1)).model


def floating_lidar() -> Any:
    """A buoy's logger, a lidar that was exchanged, and a current profiler, all at once."""
    model = demo()
    (location,) = model["measurement_location"]
    location["measurement_station_type_id"] = "floating_lidar"
    (buoy,) = location["logger_main_config"]
    location["logger_main_config"] = [
        buoy,
        buoy | {"logger_serial_number": "ZX844", "date_to": "2016-06-01T00:00:00"},
        buoy | {"logger_serial_number": "ZX1009", "date_from": "2016-06-01T00:00:00"},
        buoy | {"logger_serial_number": "102", "averaging_period_minutes": 3, "offset_from_utc_hrs": 1},
    ]
    return model


def reanalysis() -> Any:
    model = demo()
    (location,) = model["measurement_location"]
    location["measurement_station_type_id"] = "reanalysis"
    del location["logger_main_config"]
    location["model_config"] = [
        {
            "reanalysis": "ERA5",
            "model_used": "ECMWF IFS",
            "offset_from_utc_hrs": 0,
            "averaging_period_minutes": 60,
            "timestamp_is_end_of_period": False,
            "date_from": "2000-01-01T00:00:00",
            "date_to": None,
        }
    ]
    return model


@pytest.mark.parametrize("make", [demo, floating_lidar, reanalysis])
def test_device_comes_back_from_its_data_model_as_it_was(make: Callable[[], Any]) -> None:
    before = devices(make())
    assert devices(exported(*before)) == before


@pytest.mark.skipif(not SCHEMA.exists(), reason="the sample files are not on this machine")
@pytest.mark.parametrize("make", [demo, floating_lidar, reanalysis, lambda: json.loads(FULL.read_text())])
def test_exported_model_obeys_the_published_schema(make: Callable[[], Any]) -> None:
    before = devices(make())
    model = exported(*before)
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(model)
    assert devices(model) == before


def test_change_ends_where_the_next_begins() -> None:
    (location,) = exported(*devices(demo()))["measurement_location"]
    for point in location["measurement_point"]:
        changes = sorted({(c["date_from"], c["date_to"]) for c in point["logger_measurement_config"]})
        assert all(former[1] == later[0] for former, later in pairwise(changes))


def test_loggers_beside_each_other_are_told_and_keep_their_own_clocks() -> None:
    imported = devices_of(JsonFile(json.dumps(floating_lidar()).encode(), name="m.json"), answers=ANSWERS)
    (device,) = imported.devices
    assert [logger.serial for logger in device.loggers] == ["1234567", "ZX844", "ZX1009", "102"]
    assert (device.interval_s, device.loggers[3].interval_s, device.loggers[3].utc_offset_minutes) == (600.0, 180.0, 60)
    assert device.loggers[3].valid_from == datetime(2016, 1, 9, 14, 30, tzinfo=UTC)
    assert any("several loggers at a time" in warning for warning in imported.warnings)


def test_device_without_coordinates_is_refused_with_what_to_do() -> None:
    (device,) = devices(demo())
    nowhere = device.model_copy(update={"station": device.station.model_copy(update={"latitude_deg": None})})
    with pytest.raises(Refused, match="has no latitude_deg"):
        exported(nowhere)


CERTIFICATE = {
    "version": "1.0.0-2022.01",
    "calibration_id": "2110000",
    "calibration_lab": {"company_name": "Wind Tunnel"},
    "test_item": {"model": "Cup", "serial_number": "0654321", "oem": {"company_name": "Maker"}},
    "setup": {"date_of_calibration": "2021-01-01"},
    "result": {
        "linear_regression": {
            "slope": {"value": 0.04587, "unit": "m/s/Hz"},
            "offset": {"value": 0.24453, "unit": "m/s"},
        }
    },
}


def certificate(value: Any) -> Certificate:
    return read_certificate(JsonFile(json.dumps(value).encode(), name="cert.json"))


def test_digital_certificate_is_read() -> None:
    found = certificate(CERTIFICATE)
    assert (found.slope, found.offset, found.serial, found.instrument) == (0.04587, 0.24453, "0654321", "Maker Cup")
    assert (found.certificate, found.laboratory, found.calibrated_on) == ("2110000", "Wind Tunnel", "2021-01-01")
    assert certificate({"slope": 1, "offset": 0, "serial_number": "7"}).serial == "7"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "is no calibration certificate"),
        ({"result": {}}, "must have linear_regression"),
        ({"slope": "steep", "offset": 0}, "slope must be a number"),
        ({"slope": 0, "offset": 0}, "slope must not be 0"),
        ({"slope": 1, "offset": 0, "date_of_calibration": "May"}, "must be a date"),
    ],
)
def test_wrong_certificates_are_refused_by_what_is_wrong(value: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        certificate(value)


def test_certificate_holds_from_its_day_and_the_loggers_numbers_stay() -> None:
    (device,) = devices(demo())
    since = datetime(2017, 1, 10, tzinfo=UTC)
    sensors = sensors_of(device, certificate(CERTIFICATE), point="Spd80mN", channel=None, at=since)
    made = calibrated(device, sensors, certificate(CERTIFICATE), since=since, now=NOW, who="anna")
    changed = next(one for one in made.sensors if one.channel == "Spd80mN")
    before = next(one for one in device.sensors if one.channel == "Spd80mN")
    former, later = changed.calibrations[-2:]
    assert former == before.calibrations[-1].model_copy(update={"valid_to": since})
    assert (later.valid_from, later.slope, later.certificate) == (since, 0.04587, "2110000")
    assert (later.logger_slope, later.logger_offset) == (former.logger_slope, former.logger_offset)
    assert devices(exported(made))[0].sensors == made.sensors


def test_certificate_finds_its_instrument_by_serial_number_or_asks() -> None:
    (device,) = devices(demo())
    serial = next(each.serial for one in device.sensors for each in one.calibrations if each.serial)
    found = sensors_of(device, Certificate(1.0, 0.0, serial=serial), point=None, channel=None, at=NOW)
    assert {each.serial for one in found for each in one.calibrations} == {serial}
    with pytest.raises(Refused, match="--point or --channel"):
        sensors_of(device, Certificate(1.0, 0.0, serial="?"), point=None, channel=None, at=NOW)


def test_certificate_in_a_hole_ends_where_the_next_calibration_begins() -> None:
    day = [datetime(2026, 1, number, tzinfo=UTC) for number in range(1, 6)]
    old = (Calibration(valid_from=day[0], valid_to=day[1]), Calibration(valid_from=day[3], slope=2.0))
    found = dated(old, Certificate(1.5, 0.5), since=day[2])
    assert [(each.valid_from, each.valid_to) for each in found] == [
        (day[0], day[1]),
        (day[2], day[3]),
        (day[3], None),
    ]
    assert dated((), Certificate(1.5, 0.5), since=None)[0].slope == 1.5

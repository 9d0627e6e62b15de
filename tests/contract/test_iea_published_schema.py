"""The published JSON Schema of the data model is the oracle: what it takes we take, what it refuses in a field that we
use we refuse. Skipped where the sample files are not at hand."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.errors import Refused
from schemas.iea.convert import Answers, devices_of
from schemas.iea.model import (
    WORDS,
    CalibrationCertificate,
    ColumnName,
    DataModel,
    InstalledSensor,
    LoggerMainConfig,
    LoggerMeasurementConfig,
    MeasurementLocation,
    MeasurementPoint,
    MountingArrangement,
    Part,
)
from schemas.json_file import JsonFile

SAMPLES = Path("/work/shared/samples")
SCHEMA = SAMPLES / "iea43_wra_data_model.schema.json"
MODELS = ("iea43_demo_mast_wra_data_model.json", "iea43_wra_data_model_full_example.json")
pytestmark = pytest.mark.skipif(not SCHEMA.exists(), reason="the sample files are not on this machine")


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))


def test_demo_model_obeys_the_published_schema(schema: jsonschema.Draft7Validator) -> None:
    schema.validate(json.loads((files("infra.demo") / "demo_mast.json").read_text()))


@pytest.mark.parametrize("name", MODELS)
def test_sample_models_become_devices(name: str) -> None:
    file = JsonFile((SAMPLES / name).read_bytes(), name=name)
    result = devices_of(file, answers=Answers(configured_at=datetime.now(UTC), configured_by="test"))
    columns = {
        column["column_name"]
        for location in file.value["measurement_location"]
        for point in location["measurement_point"]
        for config in point["logger_measurement_config"]
        for column in config["column_name"]
    }
    assert {sensor.channel for device in result.devices for sensor in device.sensors} == columns


def test_words_are_those_of_the_schema(schema: jsonschema.Draft7Validator) -> None:
    point = schema.schema["properties"]["measurement_location"]["items"]["properties"]["measurement_point"]["items"]
    config = point["properties"]["logger_measurement_config"]["items"]["properties"]
    column = config["column_name"]["items"]["properties"]
    assert WORDS["measurement_type"] == set(schema.schema["definitions"]["measurement_type"]["enum"])
    assert WORDS["statistic"] == set(column["statistic_type_id"]["enum"])
    assert WORDS["unit"] == set(config["measurement_units_id"]["enum"]) - {None}


PARTS: dict[str | int, type[Part]] = {
    "measurement_location": MeasurementLocation,
    "logger_main_config": LoggerMainConfig,
    "measurement_point": MeasurementPoint,
    "mounting_arrangement": MountingArrangement,
    "logger_measurement_config": LoggerMeasurementConfig,
    "column_name": ColumnName,
    "sensor": InstalledSensor,
    "calibration": CalibrationCertificate,
}
OTHER_TYPES = ("x", "", 7, -7, 1e9, 0.5, True, None, [], {}, [7])


def places(value: Any, part: type[Part], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every field that we use, in the first entry of each list."""
    for name in set(part.model_fields) & set(value):
        yield (*path, name)
        if isinstance(value[name], list):
            yield from places(value[name][0], PARTS[name], (*path, name, 0))


def test_wrong_types_are_refused_where_the_schema_refuses_them(schema: jsonschema.Draft7Validator) -> None:
    model = json.loads((files("infra.demo") / "demo_mast.json").read_text())
    model["measurement_location"][0]["measurement_point"] = [
        model["measurement_location"][0]["measurement_point"][i] for i in (5, 7)
    ]
    tried = 0
    for path in places(model, DataModel):
        for wrong in OTHER_TYPES:
            changed = copy.deepcopy(model)
            at: Any = changed
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = wrong
            tried += 1
            refused_by_schema = not schema.is_valid(changed)
            refused_by_us = is_refused(changed)
            if refused_by_schema and not refused_by_us:
                assert harmless(path, wrong), (path, wrong)
            if refused_by_us and not refused_by_schema:
                assert unusable(path, wrong), (path, wrong)
    assert tried > 300


def is_refused(model: Any) -> bool:
    try:
        JsonFile(json.dumps(model).encode(), name="mast.json").as_model(DataModel)
    except Refused:
        return True
    return False


def harmless(path: tuple[str | int, ...], wrong: Any) -> bool:
    """What the schema refuses and we let pass: names of makers beyond its list, a part left empty, a finer step."""
    name = path[-1]
    absent = wrong is None and name in {"logger_oem_id", "logger_serial_number", "is_ignored", "measurement_type_id"}
    absent |= wrong is None and name in {"sensor", "logger_main_config"}
    return (
        absent
        or (name == "logger_oem_id" and isinstance(wrong, str))
        or (name, wrong)
        == (
            "averaging_period_minutes",
            0.5,
        )
    )


def unusable(path: tuple[str | int, ...], wrong: Any) -> bool:
    """What the schema lets pass and nobody can work with: text that is no date, a clock a day off, an empty name."""
    name = path[-1]
    return (
        (name in {"date_from", "date_to"} and isinstance(wrong, str))
        or (name == "offset_from_utc_hrs" and abs(wrong) > 14)
        or (name == "averaging_period_minutes" and not 0 < wrong < 1e6)
        or (name in {"name", "column_name"} and wrong == "")
    )

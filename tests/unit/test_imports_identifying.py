"""Which device a file is of, what is asked when it is not clear, and what is remembered of an answer."""

from datetime import UTC, datetime

import pytest

from producers.files.logger_file import About, Column, Identity, Kind, Stamping
from producers.imports.identifying import identify, learned, same_serial
from producers.imports.remembering import remember
from producers.stations.adopting import propose, quantity_of, sensor_of
from schemas.devices import Device, Logger, Program, Sensor, Station
from schemas.records import ImportState, ImportStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WHO = Identity("Campbell Scientific", "CR1000", "E7000", "mast", "CPU:mast.CR1", "12345", "ten")


def columns(*names: str) -> list[Column]:
    return [Column("RECORD", kind=Kind.RECORD), *(Column(name, "m/s", "Avg") for name in names)]


def device(name: str, *channels: str, loggers: tuple[Logger, ...] = (Logger(serial="E7000"),)) -> Device:
    sensors = tuple(
        Sensor(channel=each, point=each, quantity="wind_speed", unit="m/s", statistic="avg") for each in channels
    )
    station = Station(station_id="s", name="s")
    return Device(
        device_id=name,
        name=name,
        station=station,
        loggers=loggers,
        sensors=sensors,
        configured_at=NOW,
        configured_by="x",
    )


def verdict(names: tuple[str, ...], *devices: Device, taken=None, told=None, identity=WHO):  # type: ignore[no-untyped-def]
    known = {one.device_id: one for one in devices}
    return identify(identity, columns(*names), name="mast.dat", devices=known, taken=taken or {}, told=told)


def test_serial_number_finds_the_device_however_it_is_written() -> None:
    assert verdict(("a",), device("m", "a"), device("n", "a", loggers=())).device.device_id == "m"
    assert same_serial("SN 007", "7")
    assert not same_serial(None, "7")
    assert not same_serial("", "")


def test_unknown_logger_is_told_with_the_next_step() -> None:
    found = verdict(("a",), device("m", "a", loggers=(Logger(serial="1"),)))
    assert found.state == ImportState.UNKNOWN
    assert "telltale stations adopt FILE" in found.reason


def test_new_column_is_not_left_out_in_silence() -> None:
    found = verdict(("a", "b"), device("m", "a"))
    assert (found.state, found.device.device_id) == (ImportState.UNKNOWN, "m")
    assert "no channel for b" in found.reason


def test_accepted_program_may_leave_columns_out() -> None:
    program = Program(table="ten", signature="12345", columns=("a", "b"))
    logger = Logger(serial="E7000", programs=(program,))
    assert verdict(("a", "b"), device("m", "a", loggers=(logger,))).state is None


@pytest.mark.parametrize(
    ("names", "signature", "told"),
    [
        (("a", "b"), "999", "signature 12345 is now 999"),
        (("b", "a"), "12345", "columns moved: b, a"),
        (("a", "b", "c"), "12345", "new columns: c"),
        (("a",), "12345", "columns gone: b"),
    ],
)
def test_changed_program_is_asked_for(names: tuple[str, ...], signature: str, told: str) -> None:
    before = ImportStatus(
        sha256="x",
        name="x",
        state="stored",
        time=NOW,
        device_id="m",
        serial="E7000",
        table="ten",
        signature="12345",
        columns=("a", "b"),
    )
    identity = Identity("Campbell Scientific", "CR1000", "E7000", "mast", "CPU:mast.CR1", signature, "ten")
    found = verdict(names, device("m", "a", "b", "c"), taken=learned([before]), identity=identity)
    assert found.state == ImportState.NEEDS_AN_ANSWER
    assert told in found.reason
    assert verdict(("a", "b"), device("m", "a", "b"), taken=learned([before])).state is None


def test_export_without_a_program_may_have_other_columns_each_time() -> None:
    export = Identity("Windographer", serial="E7000")
    before = ImportStatus(
        sha256="x", name="x", state="stored", time=NOW, device_id="m", serial="E7000", columns=("a", "b")
    )
    known = {"devices": (device("m", "a", "b"),), "taken": learned([before])}
    assert verdict(("b",), *known["devices"], taken=known["taken"], identity=export).state is None
    found = verdict(("b", "c"), *known["devices"], taken=known["taken"], identity=export)
    assert found.state == ImportState.UNKNOWN


def test_one_logger_of_two_devices_is_told_apart_by_program_or_asked() -> None:
    ten = Logger(serial="E7000", programs=(Program(table="ten", signature="12345", columns=("a",)),))
    day = Logger(serial="E7000", programs=(Program(table="day", signature="12345", columns=("a",)),))
    assert verdict(("a",), device("m", "a", loggers=(ten,)), device("n", "a", loggers=(day,))).device.device_id == "m"
    found = verdict(("a",), device("m", "a"), device("n", "a"))
    assert found.state == ImportState.NEEDS_AN_ANSWER
    assert "--device" in found.questions[0]


def test_answers_fill_only_what_is_open_for_the_logger_that_wrote_the_file() -> None:
    loggers = (Logger(serial="1", stamp="begin"), Logger(serial="E7000", utc_offset_minutes=60))
    made = remember(device("m", "a", loggers=loggers), "E7000", Stamping(0, "end", 600.0, "dmy"))
    assert made is not None
    assert made.loggers[0] == loggers[0]
    answered = made.loggers[1]
    assert (answered.utc_offset_minutes, answered.stamp, answered.interval_s) == (60, "end", 600.0)
    assert answered.date_order == "dmy"
    assert remember(made, "E7000", Stamping(0, "begin", 60.0)) is None


def test_proposal_takes_units_statistics_and_points_from_the_columns() -> None:
    found = sensor_of(
        Column("Spd_80m_Max", "Metres/Second", "Max", about=About(serial="S1", height_m=80.0, scale=0.046))
    )
    assert (found.point, found.quantity, found.unit, found.statistic) == ("Spd_80m", "wind_speed", "m/s", "max")
    assert (found.height_m, found.calibrations[0].logger_slope) == (80.0, 0.046)
    assert sensor_of(Column("AirT_C_Std(2)", "Deg C", "Std")).quantity == "air_temperature"
    assert quantity_of(Column("PTemp"), "deg_C") == "temperature"
    assert quantity_of(Column("x"), "furlong") == "other"


def test_adopting_a_changed_file_makes_it_known() -> None:
    known = device("m", "a")
    made = propose(
        WHO,
        columns("a", "b"),
        stamping=Stamping(60, "end"),
        interval_s=600.0,
        known=known,
        device_id=None,
        station=None,
        leave_out=(),
        now=NOW,
        who="anna",
    )
    assert made.new == ("b",)
    assert verdict(("a", "b"), made.device).state is None
    fresh = propose(
        WHO,
        columns("a", "b"),
        stamping=Stamping(),
        interval_s=600.0,
        known=None,
        device_id=None,
        station=None,
        leave_out=("b",),
        now=NOW,
        who="anna",
    )
    assert (fresh.device.device_id, fresh.left_out, fresh.device.silence_limit_s) == ("mast-ten", ("b",), 1800.0)
    assert verdict(("a", "b"), fresh.device).state is None

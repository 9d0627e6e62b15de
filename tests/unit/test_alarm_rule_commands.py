"""`telltale alarms rules`: rules put into configurations and taken out, and every mistake told in one line."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result
from core_examples import make_device, make_sensor

from infra.command import telltale
from producers.stations.rules.placing import Scope, adopted, last_places, put
from schemas.alarm_rules import Level, in_force
from schemas.devices import Device, Sensor, Station
from schemas.errors import Refused

NOW = datetime(2026, 11, 26, tzinfo=UTC)
HILL, VALLEY = Station(station_id="hill", name="Hill"), Station(station_id="valley", name="Valley")


@pytest.fixture
def known() -> dict[str, Device]:
    """What the topic holds: two devices on the hill, one in the valley."""
    warm = make_sensor("t", quantity="air_temperature", unit="deg_C")
    stations = {"m1": HILL, "m2": HILL, "m3": VALLEY}
    return {name: make_device(make_sensor("a"), warm, device_id=name, station=at) for name, at in stations.items()}


@pytest.fixture
def run(known: dict[str, Device], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command over that topic."""

    def publish(_: str, devices: tuple[Device, ...]) -> int:
        known.update({device.device_id: device for device in devices})
        return len(devices)

    monkeypatch.setattr("producers.stations.devices.read_devices", lambda _: dict(known))
    monkeypatch.setattr("producers.stations.devices.publish", publish)

    def words(*words: str) -> Result:
        return CliRunner().invoke(telltale, ["alarms", "rules", *words, "--kafka", "nowhere:1"])

    return words


def limits(device: Device, name: str) -> dict[str, float | None]:
    """By channel, "" for the device."""
    found = (each for each in in_force(device) if each.rule.name == name)
    return {each.sensor.channel if each.sensor else "": each.rule.limit for each in found}


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    one: dict[str, Any] = json.loads(result.stdout)
    return one


def test_the_nearest_of_a_name_counts(run: Any, known: dict[str, Device]) -> None:
    set_ = ("set", "hot", "--kind", "above", "--limit")
    for limit, scope in (("40", ("--all",)), ("35", ("--station", "hill")), ("30", ("--sensor", "m1/t"))):
        assert told(run(*set_, limit, *scope, "--json"))["published"]
    assert limits(known["m1"], "hot") == {"a": 35.0, "t": 30.0}
    assert limits(known["m2"], "hot") == {"a": 35.0, "t": 35.0}
    assert limits(known["m3"], "hot") == {"a": 40.0, "t": 40.0}
    assert run("remove", "hot", "--station", "hill").exit_code == 0
    assert limits(known["m1"], "hot") == {"a": 40.0, "t": 30.0}


def test_what_is_not_said_stays_as_it_is_further_away(run: Any, known: dict[str, Device]) -> None:
    changed = told(run("set", "quality_share", "--all", "--limit", "20%", "--json"))
    assert (changed["rules"][0]["limit"], changed["rules"][0]["on_delay_s"]) == (0.2, 1800)
    assert (changed["devices"], changed["in_force"]) == (["m1", "m2", "m3"], 6)
    assert run("set", "quality_share", "--device", "m1", "--severity", "critical").exit_code == 0
    rule = next(each.rule for each in in_force(known["m1"]) if each.rule.name == "quality_share")
    assert (rule.limit, rule.severity) == (0.2, "critical")


def test_lengths_and_switching_off(run: Any, known: dict[str, Device]) -> None:
    assert run("set", "device_silent", "--device", "m1", "--limit", "15m", "--on-delay", "2h").exit_code == 0
    assert limits(known["m1"], "device_silent") == {"": 900.0}
    assert run("set", "device_silent", "--device", "m1", "--limit", "none").exit_code == 0
    assert limits(known["m1"], "device_silent") == {"": None}
    assert run("set", "sequence_gap", "--all", "--disable").exit_code == 0
    assert limits(known["m2"], "sequence_gap") == {}


def test_the_record_says_who_and_when(run: Any, known: dict[str, Device]) -> None:
    before = known["m1"].configured_at
    run("set", "hot", "--kind", "above", "--limit", "3", "--device", "m1")
    assert known["m1"].configured_at > before
    assert known["m1"].configured_by != "test"


def test_a_dry_run_changes_nothing(run: Any, known: dict[str, Device]) -> None:
    before = dict(known)
    result = run("set", "hot", "--kind", "above", "--limit", "3", "--all", "--dry-run")
    assert "would set for the fleet: hot" in result.output
    assert known == before


def test_listing(run: Any) -> None:
    run("set", "hot", "--kind", "above", "--limit", "40", "--all")
    run("set", "hot", "--limit", "30", "--sensor", "m1/t")
    lines = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert [(each["level"], each["source"]) for each in lines if each["rule"]["name"] == "hot"] == [
        ("fleet", None),
        ("sensor", "m1/t"),
    ]
    assert sum(each["level"] == "default" for each in lines) == 9
    of_sensor = run("list", "--sensor", "m1/t").stdout
    assert "sensor   m1/t" in of_sensor
    assert "limit 30" in of_sensor
    assert "limit 40" not in of_sensor


def test_a_rule_for_nothing_is_warned_of(run: Any) -> None:
    result = run("set", "wet", "--kind", "above", "--limit", "3", "--quantity", "humidity", "--device", "m1")
    assert result.exit_code == 0
    assert 'warning: "wet" is in force nowhere' in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("set hot --limit 3 --all", 'no rule "hot" to change: a new one needs --kind'),
        ("set hot --kind above --all", 'alarm rule "hot" (above) needs a limit'),
        ("set Hot! --kind above --limit 3 --all", "name: String should match pattern"),
        ("set q --kind quality_share --limit 50 --all", "must be in [0, 1), got 50"),
        ("set hot --kind above --limit warm --all", '--limit: expected a number, got "warm"'),
        ("set device_silent --limit soon --all", "expected seconds, or a length such as 10m"),
        ("set s --kind silence --sensor m1/t", "belongs among the device's alarm_rules"),
        (
            "set w --kind window_above --limit 1 --figure sd --window 1m --sensor m1/t",
            "window_s = 60 is none of windows_s = [600]",
        ),
        ("set hot --kind above --limit 3 --device m9", 'no device "m9" is configured; there are: m1'),
        ("set hot --kind above --limit 3 --station sea", 'no station "sea" is configured; there are'),
        ("set hot --kind above --limit 3 --sensor m1/x", 'has no channel "x"; there are: a, t'),
        ("set hot --kind above --limit 3 --sensor m1", "expected DEVICE/CHANNEL"),
        ("remove hot --all", 'no rule "hot" stands at the fleet (there: none)'),
        ("remove clock_skew --all", "it is built in, and switched off with"),
        ("list --device m9", 'no device "m9"'),
    ],
)
def test_a_mistake_is_told_in_one_line(run: Any, words: str, said: str) -> None:
    result = run(*words.split())
    assert isinstance(result.exception, Refused), result.output
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("set", "hot", "--kind", "above", "--limit", "3"),
        ("set", "hot", "--kind", "above", "--limit", "3", "--all", "--device", "m1"),
        ("set", "hot", "--kind", "loud", "--all"),
        ("set", "hot", "--on-delay", "soon", "--all"),
        ("remove", "hot"),
    ],
)
def test_wrong_words_are_usage_errors(run: Any, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def described(device_id: str, station: Station) -> Device:
    """A device as a data model describes it: nothing is said of alarm rules."""
    facts = make_device(device_id=device_id).model_dump(exclude={"alarm_rules", "fleet_alarm_rules", "sensors"})
    facts["station"] = Station(station_id=station.station_id, name=station.name)
    sensor = make_sensor("t").model_dump(exclude={"alarm_rules"})
    return Device(**{**facts, "sensors": (Sensor(**sensor),)})


def test_importing_a_description_again_keeps_the_rules_that_stand(known: dict[str, Device]) -> None:
    for name, scope in (
        ("f", Scope(Level.FLEET)),
        ("s", Scope(Level.STATION, "hill")),
        ("d", Scope(Level.DEVICE, "m1")),
        ("c", Scope(Level.SENSOR, "m1/t")),
    ):
        facts = {"kind": "above", "limit": 1.0}
        known |= {d.device_id: d for d in put(known, scope, name, facts, now=NOW, who="anna").devices}

    def names(device: Device) -> set[str]:
        return {each.rule.name for each in in_force(device) if each.level is not Level.DEFAULT}

    assert names(adopted(described("m1", HILL), known)) == {"f", "s", "d", "c"}
    assert names(adopted(described("new", HILL), known)) == {"f", "s"}
    assert names(adopted(described("new", VALLEY), known)) == {"f"}
    said = described("m1", HILL).model_copy(update={"alarm_rules": ()})
    assert names(adopted(said, known)) == {"f", "s", "c"}  # a file that says "none" means it


def test_rules_that_go_with_the_last_device_of_their_place_are_named(run: Any, known: dict[str, Device]) -> None:
    for scope in (("--all",), ("--station", "hill"), ("--device", "m3")):
        told(run("set", f"hot_{scope[0].strip('-')}", "--kind", "above", "--limit", "40", *scope, "--json"))
    m1, m2, m3 = known.values()
    assert last_places(known, [m1]) == []
    assert last_places(known, [m3]) == []  # its own are its own
    assert last_places(known, [m1, m2]) == [("station hill", ["hot_station"])]
    assert last_places(known, [m1, m2, m3]) == [("station hill", ["hot_station"]), ("the fleet", ["hot_all"])]

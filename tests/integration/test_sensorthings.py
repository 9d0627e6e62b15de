"""SensorThings as the specification's examples ask for it (OGC 18-088, sections 9.2 and 9.3)."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fix_web import MAST, ROWS, Served

pytestmark = pytest.mark.integration

STA = "/sta/v1.1"


@pytest.fixture(scope="module")
def client(served: Served) -> httpx.Client:
    return served.client()


def ask(client: httpx.Client, path: str, **options: str) -> Any:
    answer = client.get(f"{STA}/{path}", params={f"${name}": value for name, value in options.items()} or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(page: Any) -> list[Any]:
    return [each["@iot.id"] for each in page["value"]]


def test_the_root_leads_to_every_entity_set(client: httpx.Client) -> None:
    root = ask(client, "")
    names = [each["name"] for each in root["value"]]
    expected = [
        "Things",
        "Locations",
        "Datastreams",
        "Sensors",
        "ObservedProperties",
        "Observations",
        "FeaturesOfInterest",
    ]
    assert names == expected
    for each in root["value"]:
        assert client.get(each["url"]).json()["value"]
    assert root["serverSettings"]["conformance"]


def test_every_link_of_every_entity_leads_somewhere(client: httpx.Client) -> None:
    followed = set()
    for name in ("Things", "Locations", "Datastreams", "Sensors", "ObservedProperties", "Observations"):
        one = ask(client, name, top="1")["value"][0]
        assert client.get(one["@iot.selfLink"]).json() == one
        for key, link in one.items():
            if key.endswith("@iot.navigationLink"):
                assert client.get(link).status_code == 200, link
                followed.add((name, key.partition("@")[0]))
    assert len(followed) == 11


def test_paths_lead_from_thing_to_observation_and_back(client: httpx.Client) -> None:
    assert ids(ask(client, f"Things('{MAST}')/Datastreams")) == [1, 2, 3]
    assert ask(client, "Datastreams(1)/Thing")["@iot.id"] == MAST
    assert ask(client, "Datastreams(1)/ObservedProperty")["name"] == "wind_speed"
    assert ids(ask(client, "ObservedProperties('wind_speed')/Datastreams")) == [1, 4]
    first = ask(client, "Datastreams(1)/Observations", top="1")["value"][0]
    again = ask(client, f"Observations('{first['@iot.id']}')")
    assert again == first
    assert ask(client, f"Observations('{first['@iot.id']}')/Datastream")["@iot.id"] == 1
    assert ask(client, f"Observations('{first['@iot.id']}')/FeatureOfInterest")["feature"]["type"] == "Point"
    assert ask(client, f"Things('{MAST}')/Locations")["value"][0]["location"]["coordinates"] == [4.2, 52.1, 3.5]


def test_filter_order_top_skip_and_count(served: Served, client: httpx.Client) -> None:
    what = "result gt 100 and phenomenonTime ge 2024-01-10T00:00:00Z and resultQuality eq 1"
    page = ask(client, "Datastreams(1)/Observations", filter=what, orderby="phenomenonTime desc", count="true", top="7")
    expected = served.sql(
        "SELECT value FROM readings WHERE sensor_id = 1 AND value > 100 AND value <> 'NaN' AND quality = 1 "
        "AND time >= '2024-01-10 00:00Z' ORDER BY time DESC"
    )
    assert page["@iot.count"] == len(expected)
    assert [each["result"] for each in page["value"]] == [row[0] for row in expected[:7]]
    following = client.get(page["@iot.nextLink"]).json()
    assert [each["result"] for each in following["value"]] == [row[0] for row in expected[7:14]]


@pytest.fixture(params=["a/b", "what?", "no #1", "o'clock", "'/'", "100 %41", "1°"])
def odd(served: Served, request: pytest.FixtureRequest) -> Iterator[str]:
    """A quantity of that name, with two sensors."""
    served.sql(
        "INSERT INTO sensors (sensor_id, device_id, channel, quantity, unit, statistic) "
        "SELECT n, 'mast-8', 'odd' || n, %s, 'x', 'avg' FROM generate_series(91, 92) n",
        request.param,
    )
    yield request.param
    served.sql("DELETE FROM sensors WHERE sensor_id IN (91, 92)")


def test_links_lead_on_whatever_a_name_holds(client: httpx.Client, odd: str) -> None:
    one = ask(client, "Datastreams(91)/ObservedProperty")
    assert one["@iot.id"] == one["name"] == odd
    assert client.get(one["@iot.selfLink"]).json() == one
    page = client.get(one["Datastreams@iot.navigationLink"] + "?$top=1").json()
    following = client.get(page["@iot.nextLink"]).json()
    assert (ids(page), ids(following)) == ([91], [92])
    (same,) = ask(client, "ObservedProperties", filter="name eq '" + odd.replace("'", "''") + "'")["value"]
    assert same == one
    assert one["@iot.selfLink"].count("/") == 5, "one of the id's ends a segment"


def test_a_page_without_entities_leads_nowhere(client: httpx.Client) -> None:
    page = client.get(f"{STA}/Datastreams", params={"$top": "0", "$skip": "1", "$count": "true"}).json()
    assert page == {"@iot.count": 4, "value": []}


def test_pages_by_next_link_hold_everything_once(client: httpx.Client) -> None:
    found: list[str] = []
    link: str | None = f"{STA}/Datastreams(1)/Observations?$top=1000"
    while link:
        page = client.get(link).json()
        found += ids(page)
        link = page.get("@iot.nextLink")
    assert len(found) == len(set(found)) == ROWS


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("unitOfMeasurement/symbol eq 'm/s'", [1, 4]),
        ("Thing/id eq 'mast-7' and not (ObservedProperty/name eq 'wind_speed')", [2, 3]),
        ("startswith(name, 'mast-8') or id eq 2", [2, 4]),
        ("substringof('Tmp', name) eq true", [3]),
        ("properties/height_m ge 80", [1, 4]),
        ("name eq 'it''s'", []),
        ("properties/height_m eq null", []),
        ("null ne properties/height_m and Thing/id eq 'mast-8'", [4]),
    ],
)
def test_filters_of_datastreams(client: httpx.Client, what: str, expected: list[int]) -> None:
    assert ids(ask(client, "Datastreams", filter=what)) == expected


def test_expand_one_level_with_its_own_options(client: httpx.Client) -> None:
    page = ask(
        client, "Datastreams", expand="Thing,Observations($top=2;$orderby=phenomenonTime desc;$select=result)", top="2"
    )
    one = page["value"][0]
    assert one["Thing"]["@iot.id"] == MAST
    assert len(one["Observations"]) == 2
    assert set(one["Observations"][0]) == {"@iot.id", "@iot.selfLink", "result"}
    following = client.get(one["Observations@iot.nextLink"]).json()
    assert len(following["value"]) == 2
    assert not set(ids(following)) & {each["@iot.id"] for each in one["Observations"]}


def test_select_leaves_out_the_rest(client: httpx.Client) -> None:
    one = ask(client, "Things", select="name,Datastreams")["value"][0]
    assert set(one) == {"@iot.id", "@iot.selfLink", "name", "Datastreams@iot.navigationLink"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Nothing", 404),
        ("Things('none')", 404),
        ("Things(1)", 400),
        ("Datastreams('1')", 400),
        ("Datastreams(99)", 404),
        ("Datastreams(1)/Nothing", 404),
        ("Datastreams/Thing", 400),
        ("Observations('x')", 400),
        ("Things?$filter=name eq", 400),
        ("Things?$filter=name gt 5", 400),
        ("Things?$filter=" + "(" * 50, 400),
        ("Things?$filter=year(name) eq 1", 400),
        ("Things?$orderby=nothing", 400),
        ("Things?$top=-1", 400),
        ("Things?$expand=Datastreams/Observations", 501),
        ("Things?$search=x", 501),
        ("Things?top=1", 400),
        ("Things('mast-7')/$ref", 501),
    ],
)
def test_what_is_not_understood_is_told(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(f"{STA}/{path}")
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)


def test_nothing_can_be_written(client: httpx.Client) -> None:
    assert client.post(f"{STA}/Things", json={}).status_code == 405

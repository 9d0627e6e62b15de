"""`GET /sta/v1.1/...`: resource paths of SensorThings, answered from the tables."""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParameter

from dashboard.sensorthings.entities import ENTITIES, Entity, Row, observation_id, quoted
from dashboard.sensorthings.query import SKIP_MAX, Query, bad, not_there, parsed
from dashboard.web.access import Scope, database, need
from dashboard.web.feature import Feature
from dashboard.web.pools import Database
from dashboard.web.problems import not_found

PREFIX = "/sta/v1.1"
SEGMENTS = re.compile(r"(?:'(?:[^']|'')*'|[^/'])+|'")
"""Of a path: what is between slashes, of which those in quotes are part of an id."""
SEGMENT = re.compile(r"(?P<name>[A-Za-z]+)(?:\((?P<id>'(?:[^']|'')*'|-?\d{1,18})\))?")
EXPANDED_MAX = 100
"""Entities on a page whose links are expanded: each is a statement of its own."""
CONFORMANCE = [
    f"http://www.opengis.net/spec/iot_sensing/1.1/req/{each}"
    for each in (
        "datamodel",
        "resource-path/resource-path-to-entities",
        "request-data/expand",
        "request-data/select",
        "request-data/orderby",
        "request-data/top",
        "request-data/skip",
        "request-data/count",
        "request-data/filter",
        "request-data/pagination",
    )
]
Db = Annotated[Database, Depends(database)]

router = APIRouter(prefix=PREFIX, dependencies=[Depends(need(Scope.READ))], include_in_schema=False)
FEATURE = Feature(name="sensorthings", routers=(router,))

OF_STATION = """
SELECT t.station_id AS id, t.name, t.latitude_deg, t.longitude_deg, t.elevation_m
FROM sensors s JOIN devices d USING (device_id) JOIN stations t USING (station_id) WHERE s.sensor_id = %(link_0)s"""


@router.get("")
@router.get("/")
async def root(request: Request) -> Response:
    """What there is."""
    base = _base(request)
    sets = [{"name": name, "url": f"{base}/{name}"} for name in ENTITIES]
    return _json({"value": sets, "serverSettings": {"conformance": CONFORMANCE}})


@router.get("/{path:path}")
async def entities(request: Request, db: Db, path: Annotated[str, PathParameter(max_length=1_000)]) -> Response:
    """An entity, or a page of an entity set, as the resource path says."""
    return _json(await _Answer(db, _base(request), SEGMENTS.findall(path)).told(dict(request.query_params)))


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{PREFIX}"


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


class _Answer:
    def __init__(self, db: Database, base: str, segments: list[str]) -> None:
        self._db, self._base, self._segments = db, base, segments

    async def told(self, options: Mapping[str, str]) -> Any:
        segments = self._segments
        entity, where, known = await self._first(segments[0] if segments else "")
        is_one = known is not None
        for segment in segments[1:]:
            name, identity = _read(segment)
            if known is None:
                raise bad(f"{segment[:40]}: name one of {entity.name} before you go on from it")
            if segment == "$ref" or name not in entity.links:
                raise not_found(f"{segment[:60]} of {entity.one}")
            source, (target, _, _) = known, entity.links[name]
            where = _linked(entity, name, source)
            entity, known = ENTITIES[target], None
            if identity is not None:
                where |= _key(entity, identity)
            is_one = identity is not None or name == entity.one
            if is_one:
                known = await self._one(entity, where)
        query = parsed(options, entity.properties)
        if is_one:
            assert known is not None  # noqa: S101 - found above
            return await self._told(entity, known, query)
        return await self._page(entity, where, query, options)

    async def _first(self, segment: str) -> tuple[Entity, dict[str, Any], Row | None]:
        name, identity = _read(segment)
        if name not in ENTITIES:
            raise not_found(f"{segment[:60]}; there are {', '.join(ENTITIES)}, and {segment[:60]}")
        entity = ENTITIES[name]
        if identity is None:
            return entity, {}, None
        where = _key(entity, identity)
        return entity, where, await self._one(entity, where)

    async def _one(self, entity: Entity, where: Mapping[str, Any]) -> Row:
        rows = await self._rows(entity, where, Query(top=1))
        if not rows:
            raise not_found(f"this {entity.one}")
        return rows[0]

    async def _rows(self, entity: Entity, where: Mapping[str, Any], query: Query) -> list[Row]:
        statement, arguments = _statement(entity, where, query)
        order = f"{query.order}, {entity.order}" if query.order else entity.order
        page = f" ORDER BY {order} LIMIT %(top)s OFFSET %(skip)s"
        bounds = {"top": query.top, "skip": query.skip}
        return list(await self._db.rows(f"SELECT * {statement}{page}", arguments | bounds))

    async def _count(self, entity: Entity, where: Mapping[str, Any], query: Query) -> int:
        statement, arguments = _statement(entity, where, query, counting=True)
        return int((await self._db.one(f"SELECT count(*) AS count {statement}", arguments, what="the count"))["count"])

    async def _page(self, entity: Entity, where: Mapping[str, Any], query: Query, options: Mapping[str, str]) -> Any:
        if query.expand and query.top > EXPANDED_MAX:
            query = _smaller(query)
        rows = await self._rows(entity, where, _one_more(query))
        told: dict[str, Any] = {}
        if query.count:
            told["@iot.count"] = await self._count(entity, where, query)
        if len(rows) > query.top > 0 and query.skip + query.top <= SKIP_MAX:
            told["@iot.nextLink"] = self._next(options, query)
        told["value"] = [await self._told(entity, row, query) for row in rows[: query.top]]
        return told

    def _next(self, options: Mapping[str, str], query: Query) -> str:
        here = "/".join([self._base, *(quote(each, safe="'()") for each in self._segments)])
        return f"{here}?{_options(options, query)}"

    async def _told(self, entity: Entity, row: Row, query: Query) -> dict[str, Any]:
        identity = observation_id(row) if entity.key else row["id"]
        link = f"{self._base}/{entity.name}({quoted(identity)})"
        about = entity.told(row)
        if query.select:
            known = set(about) | {"id", "@iot.id"} | set(entity.links)
            for name in query.select:
                if name not in known:
                    raise bad(
                        f'$select: "{name[:60]}" is no property of {entity.one}; there are {", ".join(sorted(known))}'
                    )
            about = {name: value for name, value in about.items() if name in query.select}
        told = {"@iot.id": identity, "@iot.selfLink": link} | about
        for name in entity.links:
            if name in query.expand:
                told |= await self._expanded(entity, row, name, query.expand[name], link)
            elif not query.select or name in query.select:
                told[f"{name}@iot.navigationLink"] = f"{link}/{name}"
        for name in query.expand:
            if name not in entity.links:
                raise bad(f'$expand: "{name[:60]}" is no link of {entity.one}; there are {", ".join(entity.links)}')
        return told

    async def _expanded(
        self, entity: Entity, row: Row, name: str, options: Mapping[str, str], link: str
    ) -> dict[str, Any]:
        target = ENTITIES[entity.links[name][0]]
        query = parsed(options, target.properties, prefix="inner_")
        where = _linked(entity, name, row)
        if name == target.one:
            rows = await self._rows(target, where, Query(top=1))
            return {name: await self._told(target, rows[0], query) if rows else None}
        rows = await self._rows(target, where, _one_more(query))
        told: dict[str, Any] = {name: [await self._told(target, each, query) for each in rows[: query.top]]}
        if query.count:
            told[f"{name}@iot.count"] = await self._count(target, where, query)
        if len(rows) > query.top:
            told[f"{name}@iot.nextLink"] = f"{link}/{name}?{_options(options, query)}"
        return told


def _options(options: Mapping[str, str], query: Query) -> str:
    """The same once more, for the next page."""
    return urlencode({**options, "$skip": str(query.skip + query.top)}, safe="$")


def _read(segment: str) -> tuple[str, str | None]:
    """Name and id of a segment such as Things('mast-7'). Raises `Problem`."""
    if segment.startswith("$") or segment in ("CreateObservations", "HistoricalLocations", "MultiDatastreams"):
        raise not_there(f"{segment} is not supported")
    found = SEGMENT.fullmatch(segment)
    if found is None:
        raise not_found(f'"{segment[:60]}"')
    return found["name"], found["id"]


def _key(entity: Entity, identity: str) -> dict[str, Any]:
    """Columns and values that an id stands for. Raises `Problem`."""
    is_text = identity.startswith("'")
    if entity.is_numbered == is_text:
        expected = "a number" if entity.is_numbered else "a text in single quotes"
        raise bad(f"{entity.name}({identity[:60]}): the id is {expected}")
    text = identity[1:-1].replace("''", "'") if is_text else identity
    if entity.key:
        return dict(entity.key(text))
    if not entity.is_numbered:
        return {"id": text}
    if abs(int(text)) >= 2**31:
        raise not_found(f"{entity.one} {text}")
    return {"id": int(text)}


def _linked(entity: Entity, name: str, row: Row) -> dict[str, Any]:
    _, column, ours = entity.links[name]
    return {column: row[ours]}


def _statement(
    entity: Entity, where: Mapping[str, Any], query: Query, *, counting: bool = False
) -> tuple[str, dict[str, Any]]:
    """FROM and WHERE with their arguments. Names are our own; values are parameters."""
    arguments = {f"link_{number}": value for number, value in enumerate(where.values())}
    rows = (entity.counted if counting else None) or entity.rows
    if entity.name == "FeaturesOfInterest" and "sensor_id" in where:  # an observation's: the station of its sensor
        rows, where = OF_STATION, {}
    fixed = "".join(f" AND {column} = %(link_{number})s" for number, column in enumerate(where))
    return f"FROM ({rows}) AS entity WHERE {query.where}{fixed}", arguments | dict(query.arguments)


def _one_more(query: Query) -> Query:
    """To know whether there is a next page."""
    return Query(where=query.where, arguments=query.arguments, order=query.order, top=query.top + 1, skip=query.skip)


def _smaller(query: Query) -> Query:
    names = {
        name: getattr(query, name) for name in ("where", "arguments", "order", "skip", "count", "select", "expand")
    }
    return Query(**names, top=EXPANDED_MAX)

"""Server-sent events from the real broker: what comes, resuming, slow clients."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import Any

import httpx
import numpy as np
import pytest
from fix_sink import DEVICES, CleanReadings, clean_frame, until
from fix_web import Served, serving

from schemas.alarms import (
    Alarm,
    AlarmState,
    Severity,
    alarm_event,
)
from schemas.codec import Codec
from schemas.frames import WindowFrame
from schemas.topics import ALARMS, WINDOWS

pytestmark = pytest.mark.integration

HERE, THERE = DEVICES[:2]


class Listener:
    """A client of the stream in a thread of its own; `leave` hangs up."""

    def __init__(self, served: Served, last_event_id: str | None = None, **params: Any) -> None:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        self.events: list[tuple[str, str | None, Any]] = []
        self._client = served.client()
        self._left = threading.Event()
        arguments = ({"params": params, "headers": headers},)
        self._thread = threading.Thread(target=self._listen, args=arguments, daemon=True)
        self._thread.start()
        until(lambda: self.events, what="the stream begins")
        assert self.events[0][0] == "position", self.events

    def _listen(self, options: dict[str, Any]) -> None:
        with (
            suppress(httpx.TransportError),
            self._client.stream("GET", "/api/v1/stream", timeout=60, **options) as answer,
        ):
            if answer.status_code != 200:
                self.events.append(("refused", None, json.loads(answer.read())))
                return
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if self._left.is_set():
                    return
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    self.events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
                    fields = {}

    def of(self, *names: str) -> list[Any]:
        return [data for name, _, data in self.events if name in names]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Device and time of every reading's row that was heard."""
        return [(data["device_id"], time) for data in self.of("readings") for time in data["times"]]

    @property
    def position(self) -> str:
        return next(identity for _, identity, _ in reversed(self.events) if identity)

    def leave(self) -> None:
        self._left.set()


@pytest.fixture
def live(mast_database: str, cluster: str) -> Iterator[Served]:
    with serving(mast_database, kafka=cluster, live_behind_max=200) as one:
        yield one


@pytest.fixture
def device_partitions() -> int:
    return 4


def alarm(device: str) -> bytes:
    now = np.datetime64("2026-01-01T00:00:00").astype("datetime64[us]").item()
    event = alarm_event(
        Alarm(
            alarm_id=f"silence-{device}",
            rule="silence",
            source=f"device/{device}",
            device_id=device,
            station_id="hill",
            severity=Severity.MAJOR,
            state=AlarmState.RAISED,
            reason="no_data",
            onset=now.replace(tzinfo=UTC),
            message="silent",
        ),
        time=now.replace(tzinfo=UTC),
        speaker="tests",
    )
    return event.model_dump_json().encode()


def window(device: str) -> bytes:
    one = {name: np.array([1]) for name in ("revisions", "counts", "expected", "suspect", "failed", "missing")}
    numbers = {name: np.array([2.5]) for name in ("means", "sds", "minima", "maxima")}
    frame = WindowFrame(
        device_id=device,
        generation=0,
        channels=("Spd80",),
        starts=np.array([1_480_000_200_000_000]),
        lengths_s=np.array([600]),
        **one,
        **numbers,
    )
    return Codec().encode(frame)


@contextmanager
def producer(address: str) -> Iterator[Any]:
    from confluent_kafka import Producer

    made = Producer({"bootstrap.servers": address})
    yield made
    assert made.flush(20) == 0


def test_chosen_devices_and_kinds_come_as_they_are_committed(live: Served, clean: CleanReadings) -> None:
    here, everything = Listener(live, device=HERE), Listener(live)
    alarms_only = Listener(live, kind="alarms")
    clean.send(clean_frame(HERE, 0, 3), clean_frame(THERE, 0, 2))
    clean.send(clean_frame(HERE, 100, 5), aborted=True)
    clean.send(clean_frame(HERE, 3, 1))
    assert clean.address == live.kafka
    with producer(clean.address) as made:
        for device in (HERE, THERE):
            made.produce(WINDOWS, key=device.encode(), value=window(device))
            made.produce(ALARMS, key=b"alarm", value=alarm(device))
    until(lambda: len(everything.rows) == 6 and len(everything.of("alarm", "windows")) == 4, what="all events")
    until(lambda: len(here.rows) == 4 and len(here.of("alarm", "windows")) == 2, what="events of one device")
    until(lambda: len(alarms_only.of("alarm")) == 2, what="alarms")
    assert {device for device, _ in here.rows} == {HERE}
    first = here.of("readings")[0]
    assert (first["channels"], first["values"][1], first["quality"][0]) == (["Spd80", "Dir78"], [1.0, 1.0625], [4, 4])
    assert first["times"][0] == "2016-11-24T15:06:40Z"
    assert here.of("windows")[0]["means"] == [2.5]
    assert here.of("alarm")[0]["data"]["alarm_id"] == f"silence-{HERE}"
    assert alarms_only.of("readings", "windows") == []


def test_who_comes_back_hears_the_rest_once_also_after_a_restart(
    mast_database: str, clean: CleanReadings, live: Served
) -> None:
    listener = Listener(live, device=[HERE, THERE])
    for number in range(5):
        clean.send(clean_frame(HERE, number, 1), clean_frame(THERE, number, 1))
    until(lambda: len(listener.rows) >= 4, what="some events")
    heard_until = len(listener.events)
    position = listener.events[heard_until - 1][1]
    before = [
        (d["device_id"], t) for name, _, d in listener.events[:heard_until] if name == "readings" for t in d["times"]
    ]
    listener.leave()
    for number in range(5, 30):
        clean.send(clean_frame(HERE, number, 1), clean_frame(THERE, number, 1))
    with serving(mast_database, kafka=live.kafka) as again:
        back = Listener(again, last_event_id=position, device=[HERE, THERE])
        until(lambda: len(back.rows) + len(before) >= 60, what="the rest")
        clean.send(clean_frame(HERE, 30, 1))
        until(lambda: len(back.rows) + len(before) >= 61, what="what came afterwards")
        heard = before + back.rows
        assert len(heard) == len(set(heard)) == 61
        assert back.of("lost", "end") == []


def test_a_client_that_never_reads_holds_up_nobody_and_is_let_go(live: Served, clean: CleanReadings) -> None:
    reader = Listener(live, device=HERE, kind="readings")
    address = live.url.removeprefix("http://").partition(":")
    with socket.create_connection((address[0], int(address[2]))) as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = (
            f"GET /api/v1/stream?device={HERE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.token()}\r\n\r\n"
        )
        sleeper.sendall(request.encode())
        feed = live.app.state.feed
        until(lambda: len(feed._clients) == 2, what="both listen")
        for first in range(0, 60_000, 2_000):
            clean.send(*(clean_frame(HERE, first + more, 200) for more in range(0, 2_000, 200)))
        until(lambda: len(reader.rows) == 60_000, what="everything for who reads")
        assert max(len(each.waiting) for each in feed._clients) <= 200
    until(lambda: len(feed._clients) == 1, what="the sleeper is gone")


def test_positions_that_the_log_no_longer_holds_are_told(live: Served) -> None:
    back = Listener(live, last_event_id="r0:999999")
    until(lambda: back.of("lost"), what="what is lost")
    assert back.of("lost")[0]["partitions"] == [{"topic": "readings.clean", "partition": 0, "from": 999999}]


@pytest.mark.parametrize("position", ["x", "r0", "r0:-1", "z1:2", "r٣:1"])
def test_a_made_up_position_is_refused(live: Served, position: str) -> None:
    answer = live.client().get("/api/v1/stream", params={"since": position})
    assert answer.status_code == 422


def test_a_broker_that_is_away_is_told(mast_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.api.live.ANSWER_S_MAX", 1.0)
    with serving(mast_database, kafka="127.0.0.1:1") as served:
        answer = httpx.get(
            f"{served.url}/api/v1/stream", headers={"Authorization": f"Bearer {served.token()}"}, timeout=60
        )
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)

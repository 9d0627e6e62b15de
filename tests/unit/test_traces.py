"""Spans by real HTTP to a collector: what is followed, what is linked, and that nothing is made where nobody asked."""

import sys
import time
from collections.abc import Iterator

import pytest
from otlp_collector import Collector, collecting

from infra.telemetry import tracing
from infra.telemetry.tracing import Tracing
from producers.delivery.traces import Traces
from producers.spool import Cut, FrameKey

LOST = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Journal:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.said.append(event)

    warning = info


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", *tracing.ENDPOINTS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        yield one


def started(service: str = "tried") -> Tracing:
    made = tracing.start(service, version="1.2", log=Journal())
    assert made is not None
    return made


def test_without_an_endpoint_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    assert tracing.start("tried", version="1", log=journal) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing.start("tried", version="1", log=journal) is None
    assert journal.said == []


def test_without_the_sdk_it_is_said_and_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    journal = Journal()
    assert tracing.start("tried", version="1", log=journal) is None
    assert journal.said == ["no_traces"]


def test_the_edge_follows_a_share_of_its_frames(collector: Collector) -> None:
    made = started("edge")
    followed = [made.send("edge.send", {"sequence": number}) for number in range(3000)]
    for each in followed:
        each.end()
    made.end()
    chosen = [each for each in followed if each.headers]
    assert 0 < len(chosen) < 200  # one in a hundred: 30, and 200 is thirty times its deviation away
    assert {span.span for span in collector.spans} == {each.headers[0][1].split(b"-")[2].decode() for each in chosen}


def test_a_batch_is_linked_with_all_and_has_the_first_as_its_parent(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    made = started("streams")
    sent = [made.send("edge.send", {"device": "pi-1", "sequence": number}) for number in range(3)]
    origins = [each.headers[0][1] for each in sent]
    batch = made.batch(
        "stage.transaction", [*origins, origins[0], b"nonsense", b"\xff"], began_s=time.time() - 2,
        attributes={"rejected": 4},
    )  # fmt: skip
    batch.end()
    for each in sent:
        each.end()
    made.end()
    edges = {span.attributes["telltale.sequence"]: span for span in collector.named("edge.send")}
    (stage,) = collector.named("stage.transaction")
    assert stage.links == {span.key for span in edges.values()}
    assert (stage.trace, stage.parent) == edges[0].key
    assert stage.attributes == {"telltale.rejected": 4, "telltale.followed": 3}
    assert (stage.service, stage.ms >= 2000) == ("telltale-streams", True)
    assert batch.headers == (("traceparent", f"00-{stage.trace}-{stage.span}-01".encode()),)


def test_a_trace_begun_elsewhere_goes_on(collector: Collector) -> None:
    made = started("sink")
    made.batch("sink.transaction", [LOST]).end()
    made.end()
    (span,) = collector.spans
    assert (span.trace, span.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def cut(sequence: int) -> Cut:
    return Cut(FrameKey("pi-1", "sp", sequence), groups=3, rows=3, readings=3, bytes=50)


def test_frames_that_are_sent_again_or_lost_say_so(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    made = started("edge")
    traces = Traces(made)
    for sequence in (1, 2, 3, 1):
        assert [name for name, _ in traces.begin(cut(sequence))] == ["traceparent"]
    traces.end(FrameKey("pi-1", "sp", 1))
    traces.end(FrameKey("pi-1", "sp", 2), error="refused")
    traces.end(FrameKey("pi-1", "sp", 9))
    traces.end_all()
    made.end()
    told = sorted((span.attributes["telltale.sequence"], span.failed) for span in collector.spans)
    assert told == [(1, False), (1, True), (2, True), (3, True)]


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    made = started()
    made.send("edge.send", {}).end()
    made.end()  # comes back: within END_S_MAX, which no test can time

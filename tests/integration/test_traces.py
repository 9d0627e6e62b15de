"""A frame is followed from an edge through the stage to the row, by real processes and a real collector's protocol."""

from pathlib import Path

import pytest
from fix_services import Start, await_true
from fix_sink import Database
from fix_stage import START_US, Wire, make_device
from otlp_collector import collecting

pytestmark = pytest.mark.integration

READ = "SELECT count(*) FROM readings r JOIN sensors s USING (sensor_id) WHERE s.device_id = 'mast-7'"
EDGE = """
device = "mast-7"
spool = "spool"
linger_s = 0.05

[[source]]
kind = "exec"
command = ["sh", "lines.sh"]
every_s = 3600
"""


@pytest.fixture
def device_partitions() -> int:
    return 1


def test_from_edge_to_row(cluster: str, wire: Wire, stored: Database, start: Start, tmp_path: Path) -> None:
    wire.configure(make_device("mast-7", channels=1))
    (tmp_path / "edge.toml").write_text(EDGE)
    lines = "\n".join(f"echo {START_US // 1_000_000 + second},c0,7.5" for second in range(3))
    (tmp_path / "lines.sh").write_text(f"{lines}\n")
    with collecting() as collector:
        env = {
            "TELLTALE_KAFKA": cluster,
            "TELLTALE_DATABASE": stored.dsn,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        stage, sink = start("streams", "run", **env), start("sink", "run", **env)
        stage.await_ready()
        sink.await_ready()
        edge = start("edge", "run", **env, OTEL_TRACES_SAMPLER="always_on").await_ready()
        await_true(lambda: stored.one(READ) == 3, what="three rows", within_s=90)
        await_true(lambda: bool(collector.named("sink.transaction")), what="the sink's span")
        await_true(lambda: bool(collector.named("stage.transaction")), what="the stage's span")
        await_true(lambda: bool(collector.named("edge.send")), what="the edge's span")
        assert edge.stop() == 0
        assert stage.stop() == 0
        assert sink.stop() == 0
    edges = {span.key: span for span in collector.named("edge.send")}
    stages = {span.key: span for span in collector.named("stage.transaction")}
    sinks = {span.key: span for span in collector.named("sink.transaction")}
    assert sum(span.attributes["telltale.readings"] for span in edges.values()) == 3
    assert {span.attributes["telltale.device"] for span in edges.values()} == {"mast-7"}
    assert set().union(*(span.links for span in stages.values())) == edges.keys()
    assert set().union(*(span.links for span in sinks.values())) == stages.keys()
    for span in sinks.values():
        above = stages[span.trace, span.parent]
        first = edges[above.trace, above.parent]
        assert (span.service, above.service, first.service) == ("telltale-sink", "telltale-streams", "telltale-edge")
        assert not span.failed
    assert sum(span.attributes["telltale.rows"] for span in sinks.values()) >= 3

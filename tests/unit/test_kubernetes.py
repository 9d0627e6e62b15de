"""What can be checked of the Kubernetes files without a cluster: that they are well formed, and name what exists."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka.admin import ResourcePatternType, ResourceType
from deployed import is_read_by_somebody

from infra import parts
from infra.command import COMMANDS, telltale
from infra.kafka.broker import Broker
from infra.security import principals
from schemas.topics import PARTITIONS, TOPICS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
KUBERNETES = "1.33"
CUSTOM = json.loads(gzip.decompress((ROOT / "tests" / "kubernetes" / "crds.json.gz").read_bytes()))
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
DOCUMENTS = [
    (name, document) for name in FILES for document in yaml.safe_load_all((FOLDER / name).read_text()) if document
]


def named(kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for _, each in DOCUMENTS if each["kind"] == kind}


WORKLOADS = {**named("Deployment"), **named("StatefulSet")}
PODS = {name: each["spec"]["template"] for name, each in WORKLOADS.items()}
CONTAINERS = {
    container["name"]: (pod["spec"], container) for pod in PODS.values() for container in pod["spec"]["containers"]
}
SERVICES = {name: one for name, one in CONTAINERS.items() if "args" in one[1]}


@pytest.mark.parametrize(
    ("file", "document"),
    DOCUMENTS,
    ids=[f"{name}-{each['kind']}-{each['metadata']['name']}" for name, each in DOCUMENTS],
)
def test_each_object_is_as_its_kind_demands(file, document):
    custom = CUSTOM.get(f"{document['apiVersion']}/{document['kind']}")
    if custom is not None:
        jsonschema.validate(document, custom)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_field_that_is_not_known_is_found():
    topic = next(iter(named("KafkaTopic").values()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            topic | {"spec": topic["spec"] | {"replication": 3}}, CUSTOM["kafka.strimzi.io/v1/KafkaTopic"]
        )
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(named("Service")["dashboard"] | {"spec": {"ports": "80"}}, KUBERNETES, strict=True)


def test_kustomize_names_every_file():
    assert sorted(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]) == FILES


def test_topics_are_those_of_the_catalogue():
    told = {
        name: (each["spec"]["partitions"], each["spec"]["config"], each["spec"]["replicas"])
        for name, each in named("KafkaTopic").items()
    }
    assert told == {name: (topic.partitions(), topic.config(), 3) for name, topic in TOPICS.items()}


def test_kafka_is_set_as_the_embedded_three_are():
    ports = {1: 1, 2: 2, 3: 3}
    wanted = Broker(Path("x"), 1, 1, 1, quorum=ports).properties()
    told = {name: str(value).lower() for name, value in named("Kafka")["telltale"]["spec"]["kafka"]["config"].items()}
    assert told.pop("connections.max.reauth.ms") == "600000"  # of the listener for devices, see infra.kafka.broker.Door
    assert told == {name: wanted[name] for name in told}
    assert {
        name for name in wanted if name.endswith(("replication.factor", ".min.isr", ".insync.replicas"))
    } <= told.keys()
    assert named("KafkaNodePool")["nodes"]["spec"]["replicas"] == len(ports)


def test_everything_that_a_stack_runs_is_there():
    by_strimzi = {"topics"}
    assert set(SERVICES) == set(parts.declared()) - by_strimzi


@pytest.mark.parametrize("name", SERVICES)
def test_each_command_is_one_of_telltale(name):
    words = SERVICES[name][1]["args"]
    assert words[0] in COMMANDS
    shown = CliRunner().invoke(telltale, [*words[:2], "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output


def variables(container: dict[str, Any]) -> dict[str, Any]:
    shared = [named("ConfigMap")[each["configMapRef"]["name"]]["data"] for each in container.get("envFrom", [])]
    own = {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}
    return {name: value for some in (*shared, own) for name, value in some.items()}


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_variable_is_read_by_somebody(name):
    for variable in variables(CONTAINERS[name][1]):
        assert is_read_by_somebody(variable), variable


def ports_of(container: dict[str, Any]) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container.get("ports", [])}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_those_at_which_a_service_listens(name):
    container = SERVICES[name][1]
    said = variables(container).get("TELLTALE_METRICS_PORT")
    listens = {int(said)} if said else set()
    words = container["args"]
    if "--port" in words:
        listens.add(int(words[words.index("--port") + 1]))
        assert words[words.index("--host") + 1] == "0.0.0.0"
    assert set(ports_of(container).values()) == listens


@pytest.mark.parametrize("name", SERVICES)
def test_probes_ask_what_services_answer(name):
    container = SERVICES[name][1]
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        assert asked["port"] in ports_of(container)


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_container_has_rights_to_spare(name):
    spec, container = CONTAINERS[name]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "infra" / "Dockerfile").read_text()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]


def referenced(node: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of what a pod needs from elsewhere."""
    if isinstance(node, list):
        for each in node:
            yield from referenced(each)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "secretKeyRef":
            yield "secret", value["name"]
        elif key == "secret":
            yield "secret", value["secretName"]
        elif key == "persistentVolumeClaim":
            yield "claim", value["claimName"]
        elif key == "configMapRef":
            yield "settings", value["name"]
        else:
            yield from referenced(value)


def test_what_pods_refer_to_exists_or_the_readme_says_how_to_make_it():
    by_strimzi = {"telltale-cluster-ca-cert", *named("KafkaUser")}
    readme = (FOLDER / "README.md").read_text()
    assert not by_strimzi & set(re.findall(r"secret generic ([\w-]+)", readme))
    for kind, name in set(referenced(list(PODS.values()))):
        if kind == "secret":
            assert name in by_strimzi or f"secret generic {name}" in readme, name
        else:
            assert name in named({"claim": "PersistentVolumeClaim", "settings": "ConfigMap"}[kind])


def test_no_secret_is_written_down():
    assert named("Secret") == {}
    for _, container in CONTAINERS.values():
        for each in container.get("env", []):
            assert "value" not in each or not any(word in each["name"] for word in ("PASSWORD", "SECRET", "DATABASE"))


def test_every_mount_has_its_volume():
    for name, pod in PODS.items():
        claims = WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
        known = {each["name"] for each in pod["spec"]["volumes"]} | {each["metadata"]["name"] for each in claims}
        for container in pod["spec"]["containers"]:
            assert {each["name"] for each in container["volumeMounts"]} <= known


def selected(selector: dict[str, Any]) -> set[str]:
    wanted = selector.get("matchLabels", {})
    return {
        name
        for name, pod in PODS.items()
        if wanted.items() <= pod["metadata"]["labels"].items()
        and all(pod["metadata"]["labels"].get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))
    }


def test_selectors_select():
    for name, each in WORKLOADS.items():
        assert selected(each["spec"]["selector"]) == {name}
    for name, each in named("PodDisruptionBudget").items():
        assert selected(each["spec"]["selector"]) == {name}
    for name, each in named("Service").items():
        assert selected({"matchLabels": each["spec"]["selector"]}) == {name}
        known = {port for container in PODS[name]["spec"]["containers"] for port in ports_of(container)}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= known
    for name, each in named("NetworkPolicy").items():
        assert selected(each["spec"]["podSelector"]), name


def test_what_may_be_many_has_a_budget_and_is_scaled_on_lag_up_to_its_partitions():
    scaled = named("ScaledObject")
    assert set(scaled) == {name for name, each in WORKLOADS.items() if "replicas" not in each["spec"]}
    for name, each in scaled.items():
        assert name in named("PodDisruptionBudget")
        assert each["spec"]["scaleTargetRef"]["name"] == name
        assert each["spec"]["maxReplicaCount"] == PARTITIONS
        trigger = each["spec"]["triggers"][0]["metadata"]
        assert trigger["consumerGroup"] == f"telltale-{name}"
        assert name in TOPICS[trigger["topic"]].read_by


def test_by_network_nobody_is_let_in_but_to_pages_and_metrics():
    policies = named("NetworkPolicy")
    assert selected(policies["nothing"]["spec"]["podSelector"]) == set(PODS)
    assert set(policies["nothing"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    open_to = {
        port["port"] for each in policies.values() for rule in each["spec"].get("ingress", []) for port in rule["ports"]
    }
    assert open_to == {port for _, container in CONTAINERS.values() for port in ports_of(container).values()}
    listeners = {each["port"] for each in named("Kafka")["telltale"]["spec"]["kafka"]["listeners"]}
    address = variables(CONTAINERS["streams"][1])["TELLTALE_KAFKA"]
    assert int(address.rpartition(":")[2]) in listeners
    out = {port["port"] for rule in policies["names-and-kafka"]["spec"]["egress"] for port in rule["ports"]}
    assert int(address.rpartition(":")[2]) in out


KIND = {ResourceType.TOPIC: "topic", ResourceType.GROUP: "group", ResourceType.TRANSACTIONAL_ID: "transactionalId"}
PATTERN = {ResourcePatternType.LITERAL: "literal", ResourcePatternType.PREFIXED: "prefix"}
OTHERS = {"telltale-keda", "telltale-console"}


@pytest.mark.parametrize("part", principals.RIGHTS)
def test_a_user_has_the_rights_that_the_stack_gives_it(part):
    told = {
        (acl["resource"]["type"], acl["resource"]["name"], acl["resource"].get("patternType", "literal"), operation)
        for acl in named("KafkaUser")[principals.name_of(part)]["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }
    assert told == {
        (
            KIND[each.restype],
            each.name,
            PATTERN[each.resource_pattern_type],
            each.operation.name.title().replace("_", ""),
        )
        for each in principals.bindings(part)
    }


def test_nobody_else_has_rights():
    assert set(named("KafkaUser")) == {*map(principals.name_of, principals.RIGHTS), *OTHERS}


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_shows_the_certificate_of_its_own_user(name):
    spec, container = SERVICES[name]
    said = variables(container)
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each.get("secret", {}) for each in spec["volumes"]}
    for variable in ("TELLTALE_KAFKA_CERTIFICATE", "TELLTALE_KAFKA_KEY"):
        assert volumes[mounts[str(Path(said[variable]).parent)]]["secretName"] == principals.name_of(name)
    authority = volumes[mounts[str(Path(said["TELLTALE_KAFKA_CA"]).parent)]]
    assert authority["secretName"] == "telltale-cluster-ca-cert"
    assert Path(said["TELLTALE_KAFKA_CA"]).name in {each["path"] for each in authority["items"]}


def test_every_pod_has_a_user():
    for pod in PODS.values():
        secrets = {name for kind, name in referenced(pod) if kind == "secret"}
        assert secrets & named("KafkaUser").keys()
        assert pod["metadata"]["labels"]["telltale/kafka"] == "client"

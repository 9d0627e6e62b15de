"""What can be checked of the compose file and the image without a Docker engine: that they name what exists."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from fix_stack import DATABASE_IMAGE, KAFKA_IMAGE
from pydantic_settings import BaseSettings

from dashboard.web.settings import WebSettings
from infra import parts
from infra.command import COMMANDS, telltale
from infra.kafka.broker import Broker
from infra.telemetry.settings import MetricsSettings

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("telltale:")}
ONCE = {name for name, service in OURS.items() if service["restart"] == "no"}
PROMETHEUS = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
SOURCES = yaml.safe_load((INFRA / "grafana" / "provisioning" / "datasources" / "telltale.yaml").read_text())
EXAMPLE = (INFRA / "compose.env.example").read_text()
ELSEWHERE = {"process.roles", "node.id", "controller.quorum.voters", "listeners", "advertised.listeners"} | {
    "listener.security.protocol.map", "inter.broker.listener.name", "controller.listener.names", "log.dirs",
}  # fmt: skip
"""Settings that name hosts, ports and folders."""


def test_the_broker_is_set_as_the_embedded_one():
    told = SERVICES["kafka"]["environment"]
    wanted = {
        "KAFKA_" + name.upper().replace(".", "_"): value
        for name, value in Broker(Path("x"), 1, 2).properties().items()
        if name not in ELSEWHERE
    }
    assert {name: value for name, value in told.items() if name in wanted} == wanted


def test_images_are_those_that_the_tests_use():
    assert (SERVICES["kafka"]["image"], SERVICES["database"]["image"]) == (KAFKA_IMAGE, DATABASE_IMAGE)


def test_the_image_has_the_database_programs_of_its_version():
    major = re.search(r"-pg(\d+)$", DATABASE_IMAGE)
    assert major is not None
    assert f"postgresql-client-{major[1]}" in (INFRA / "Dockerfile").read_text()


def test_everything_that_a_stack_runs_is_there():
    assert set(OURS) - {"reader"} == set(parts.declared())
    assert {"topics", "reader"} == ONCE


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_of_telltale(name):
    words = OURS[name]["command"]
    assert words[0] in COMMANDS
    shown = CliRunner().invoke(telltale, [*words[:2], "--help"])
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output


def variables(service):
    return {name for name in service.get("environment", {}) if name.startswith("TELLTALE_")}


def known_variables():
    """Fields of every settings class, and variables that the code names itself."""
    tops = ("infra", "sinks", "dashboard", "streams", "producers")
    paths = [path for top in tops for path in (INFRA.parent / top).rglob("*.py")]
    found = {name for path in paths for name in re.findall(r'"(TELLTALE_\w+)"', path.read_text())}
    for path in paths:
        if path.name != "settings.py":
            continue
        module = importlib.import_module(".".join(path.relative_to(INFRA.parent).with_suffix("").parts))
        for settings in vars(module).values():
            if isinstance(settings, type) and issubclass(settings, BaseSettings):
                prefix = settings.model_config.get("env_prefix", "")
                found |= {f"{prefix}{field.upper()}" for field in settings.model_fields}
    return found


def test_each_variable_is_one_of_the_settings():
    assert set().union(*map(variables, OURS.values())) <= known_variables()


def test_the_example_of_the_environment_is_what_the_file_asks_for():
    text = (INFRA / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(TELLTALE_\w+)", text))
    asked |= {secret["environment"] for secret in COMPOSE["secrets"].values()}
    offered = set(re.findall(r"^#?(TELLTALE_\w+)=", EXAMPLE, re.MULTILINE))
    assert asked - {"TELLTALE_VERSION"} == offered


def test_prometheus_asks_every_service_at_its_port():
    (own, *_) = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "telltale"]
    (found,) = own["dns_sd_configs"]
    assert set(found["names"]) == OURS.keys() - ONCE
    for name in found["names"]:
        told = OURS[name]["environment"]
        settings = MetricsSettings(host=told["TELLTALE_METRICS_HOST"], port=told["TELLTALE_METRICS_PORT"])
        assert (settings.host, settings.port) == ("0.0.0.0", found["port"])
        assert f":{settings.port}/readyz" in OURS[name]["healthcheck"]["test"][-1]
    (files,) = PROMETHEUS["rule_files"]
    assert (INFRA / "prometheus" / Path(files).name).is_file()


def test_the_dashboard_listens_where_it_is_published():
    words = OURS["dashboard"]["command"]
    inside = words[words.index("--port") + 1]
    assert int(inside) == WebSettings.model_fields["port"].default
    assert [port.rpartition(":")[2] for port in OURS["dashboard"]["ports"]] == [inside]


def test_grafana_reads_prometheus_and_the_database_as_a_reader():
    by_name = {source["name"]: source for source in SOURCES["datasources"]}
    inside = SERVICES["prometheus"]["ports"][0].rpartition(":")[2]
    assert by_name["Prometheus"]["url"] == f"http://prometheus:{inside}"
    reader = by_name["Telltale"]
    assert reader["url"] == f"database:{SERVICES['database']['ports'][0].rpartition(':')[2]}"
    words = OURS["reader"]["command"]
    assert words[:3] == ["db", "grant-reader", reader["user"]]
    secret = words[words.index("--password-file") + 1]
    assert reader["secureJsonData"]["password"] == f"$__file{{{secret}}}"
    assert int(words[words.index("--connections") + 1]) >= reader["jsonData"]["maxOpenConns"]
    assert reader["jsonData"]["database"] == SERVICES["database"]["environment"]["POSTGRES_DB"]


def test_secrets_are_declared_and_nobody_has_more_than_he_needs():
    used = {name: set(service.get("secrets", ())) for name, service in SERVICES.items()}
    assert set().union(*used.values()) == COMPOSE["secrets"].keys()
    assert {name for name, secrets in used.items() if secrets} == {"grafana", "reader"}
    for name in used["grafana"]:
        assert f"/run/secrets/{name}" in (INFRA / "compose.yaml").read_text()


def test_everything_is_looked_after():
    for name, service in SERVICES.items():
        if name in ONCE:
            continue
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
    for name in ("kafka", "database", "prometheus", "grafana"):
        assert any(":" in volume and not volume.startswith(".") for volume in SERVICES[name]["volumes"])


def test_nothing_listens_beyond_this_machine():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_our_services_have_no_rights_to_spare():
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert "\nUSER telltale\n" in (INFRA / "Dockerfile").read_text()


def test_volumes_are_declared_and_folders_are_the_accounts():
    image = (INFRA / "Dockerfile").read_text()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            name, _, inside = volume.partition(":")
            assert (INFRA / name).exists() or name in ("./notify.toml", *COMPOSE["volumes"])
            if service in OURS.values() and not name.startswith("."):
                assert inside.partition(":")[0] in image


def test_modules_of_commands_are_part_of_the_image():
    left_out = (INFRA.parent / ".dockerignore").read_text().split()
    for name in OURS:
        module = COMMANDS[OURS[name]["command"][0]][0].partition(":")[0]
        assert importlib.util.find_spec(module) is not None
        assert module.partition(".")[0] not in left_out

"""What can be checked of the compose file and the image without a Docker engine: that they name what exists."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from fix_stack import DATABASE_IMAGE, KAFKA_IMAGE

from infra import parts
from infra.command import COMMANDS, telltale
from infra.kafka.broker import Broker

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "command" in service}
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
    assert set(OURS) == set(parts.declared())


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


def test_each_variable_is_read_by_somebody():
    tops = ("infra", "sinks", "dashboard", "streams")
    sources = "\n".join(path.read_text() for top in tops for path in (INFRA.parent / top).rglob("*.py"))
    for name in set().union(*map(variables, OURS.values())):
        fields = [f'env_prefix="{name[: at.start()]}_"' for at in re.finditer("_", name)]
        assert f'"{name}"' in sources or any(field in sources for field in fields), name


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
            assert name.startswith(".") or name in COMPOSE["volumes"]
            if service in OURS.values() and not name.startswith("."):
                assert inside.partition(":")[0] in image


def test_modules_of_commands_are_part_of_the_image():
    left_out = (INFRA.parent / ".dockerignore").read_text().split()
    for name in OURS:
        module = COMMANDS[OURS[name]["command"][0]][0].partition(":")[0]
        assert importlib.util.find_spec(module) is not None
        assert module.partition(".")[0] not in left_out

"""The units of systemd, by systemd's own checkers where the machine has them, and against the code."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from deployed import is_read_by_somebody

from infra import parts, readiness
from infra.command import COMMANDS, telltale

ROOT = Path(__file__).parents[2]
UNITS = (
    ROOT / "infra" / "telltale.service",
    ROOT / "infra" / "telltale@.service",
    ROOT / "producers" / "telltale-edge.service",
)
SERVER = UNITS[:2]
SERVICES = [name for name, entry in parts.declared().items() if not entry.get("once")]
PROGRAM = "/opt/telltale/bin/telltale"
EXPOSURE_MAX = 2.0
"""Of 10, by `systemd-analyze security`: what PostgreSQL, Java and Python need stays open."""

analyzed = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")


def fields(unit: Path) -> list[tuple[str, str]]:
    lines = [line.strip() for line in unit.read_text().splitlines()]
    return [tuple(line.split("=", 1)) for line in lines if line and not line.startswith(("#", "["))]  # type: ignore[misc]


def analyze(unit: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What systemd says of the unit, whose program is not installed here; of a template's instance for the sink."""
    copy = folder / unit.name.replace("@.", "@sink.")
    copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return subprocess.run(
        ["systemd-analyze", *words, str(copy)], capture_output=True, text=True, timeout=60, check=False
    )


@analyzed
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit_without_a_word(unit, tmp_path):
    said = analyze(unit, tmp_path, "verify")
    assert (said.returncode, said.stderr.strip()) == (0, "")


@analyzed
@pytest.mark.parametrize("unit", SERVER, ids=lambda unit: unit.name)
def test_a_server_is_locked_up(unit, tmp_path):
    said = analyze(unit, tmp_path, "security", "--offline=true", "--no-pager").stdout
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_variables_are_read_by_somebody_and_commands_exist(unit):
    for name, value in fields(unit):
        if name == "Environment":
            for variable in re.findall(r"(TELLTALE_\w+)=", value):
                assert is_read_by_somebody(variable)
        if name == "ExecStart":
            words = value.removeprefix(PROGRAM).split()
            for one in ([service, *words[1:]] for service in SERVICES) if words[0] == "%i" else [words]:
                assert one[0] in COMMANDS
                assert CliRunner().invoke(telltale, [*one[:2], "--help"]).exit_code == 0, one
    for variable in re.findall(r"TELLTALE_\w+", unit.read_text()):
        assert is_read_by_somebody(variable), variable


@pytest.mark.parametrize("unit", SERVER, ids=lambda unit: unit.name)
def test_what_is_written_lies_in_the_folders_that_systemd_makes(unit):
    told = dict(fields(unit))
    assert (told["StateDirectory"], told["CacheDirectory"], told["ProtectSystem"]) == ("telltale", "telltale", "strict")
    folders = dict(re.findall(r"(TELLTALE_\w+)=(\S+)", told["Environment"]))
    assert folders["TELLTALE_DIR"].startswith("/var/lib/telltale/")  # backups lie beside it by default
    assert folders["TELLTALE_CACHE"] == "/var/cache/telltale"


def test_a_service_tells_systemd_that_it_works(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        readiness.announce()
        assert line.recv(100) == b"READY=1"

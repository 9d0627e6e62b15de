"""What producers/raspberry-pi.md has people write into files is taken as it stands there."""

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

from producers.config import read_config
from producers.stations.files import read_file
from schemas.iea.convert import Answers

PAGE = (Path(__file__).parents[2] / "producers" / "raspberry-pi.md").read_text()
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", PAGE) if block.strip()]


def test_the_edge_toml_is_good(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(next(block for block in BLOCKS if "[[source]]" in block))
    assert read_config(file).settings.spool == Path("/var/lib/telltale/spool")


def test_the_device_is_configured_as_it_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "pi-1.json"
    file.write_text(next(block for block in BLOCKS if "device_id" in block))
    asked = Answers(configured_at=datetime(2024, 1, 1, tzinfo=UTC), configured_by="test")
    [device] = read_file(file, answers=asked).devices
    assert [sensor.channel for sensor in device.sensors] == ["temperature"]

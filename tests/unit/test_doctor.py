"""What `telltale doctor` finds without a stack."""

import importlib
from pathlib import Path

import pytest

from infra import doctor


def test_a_package_that_an_edge_does_without_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("faust")  # as others in the process may have
    there = {each.name: each for each in doctor.examine(tmp_path)}
    assert there["packages"].ok
    monkeypatch.setattr(doctor, "PACKAGES", (*doctor.PACKAGES, "not_to_be_had"))
    lacking = {each.name: each for each in doctor.examine(tmp_path)}["packages"]
    assert not lacking.ok
    assert lacking.found.startswith("not_to_be_had: install Telltale with all extras")

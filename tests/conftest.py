"""Fixtures shared by all tests; each family has a file of its own."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# Test folders are no packages (importmode importlib); the fixture files beside this one are found by their names.
sys.path.insert(0, str(Path(__file__).parent))

# Most of the time goes to brokers' first minutes. Whoever starts them inherits it.
os.environ.setdefault("TELLTALE_KAFKA_BRIEF", "true")

pytest_plugins = [
    "fix_edge",
    "fix_files",
    "fix_proxy",
    "fix_services",
    "fix_sink",
    "fix_exports",
    "fix_sources",
    "fix_stack",
    "fix_stage",
    "fix_timescaledb",
    "fix_web",
    "fix_house",  # knows others
    "fix_site",  # these know the others
    "fix_faultbook",
    "fix_pipeline",
]

# How long an example takes says something of the machine's load, not of the code.
settings.register_profile("telltale", deadline=None)
settings.load_profile("telltale")

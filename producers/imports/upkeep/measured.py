"""The metrics of `telltale imports run`."""

from prometheus_client import Counter, Gauge

from infra.telemetry.registry import REGISTRY, Moment

FILES = Gauge("telltale_imports_files", "Imported files by what has become of them.", ["state"], registry=REGISTRY)
CHANGES = Counter("telltale_imports_changes_total", "Files that came to a state.", ["state"], registry=REGISTRY)
ALARMS = Gauge("telltale_imports_alarms", "Alarms about files and uploads that stand.", registry=REGISTRY)
LOOKED = Moment("telltale_imports_last_look_timestamp_seconds", "When it last looked at everything.")

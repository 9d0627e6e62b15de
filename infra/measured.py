"""Metrics of what several services share: alarms that they raise about themselves."""

from prometheus_client import Counter

from infra.telemetry.registry import REGISTRY

RAISED = Counter(
    "telltale_service_alarms_raised_total", "Alarms that the service has raised, but for the stage's.",
    ["rule", "severity"], registry=REGISTRY,
)  # fmt: skip

"""The edge: sources, the spool, the idempotent producer. `from producers import Edge` embeds it in a program."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producers.edge import Edge
    from producers.settings import EdgeSettings

__all__ = ["Edge", "EdgeSettings"]


def __getattr__(name: str) -> Any:
    """Imported on first use: `telltale --help` needs neither numpy nor librdkafka."""
    if name == "Edge":
        from producers.edge import Edge  # noqa: PLC0415 - see above

        return Edge
    if name == "EdgeSettings":
        from producers.settings import EdgeSettings  # noqa: PLC0415 - see above

        return EdgeSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The log of a service, in the one shape of `infra.log_lines`. Knows structlog; called by composition roots only.

What libraries say by Python's `logging` comes out in the same shape, from warnings on.
"""

import logging
from typing import Any

import structlog

from infra import log_lines


class _Foreign(logging.Handler):
    """Libraries' records as events."""

    def emit(self, record: logging.LogRecord) -> None:
        say = structlog.get_logger().bind(logger=record.name)
        try:
            say.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 - a library's log line must not stop the work
            self.handleError(record)


def configure(level: str = "info", *, service: str) -> None:
    """Events of `level` and above go to standard output, one line each. Raises `Refused` for an unknown format."""
    how = log_lines.chosen()

    def of_service(_: Any, __: str, event: Any) -> Any:
        event.setdefault("service", service)
        return event

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            of_service,
            lambda _, __, event: log_lines.render(event, how),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Foreign()], force=True)
    log_lines.speak_by(structlog.get_logger().error)

"""What a person said of a logger's stamps, in its device's configuration, for the next file. Pure."""

from datetime import UTC, datetime

from producers.files.logger_file import Stamping
from producers.imports.identifying import same_serial
from schemas.devices import Device, Logger


def remember(device: Device, serial: str, told: Stamping) -> Device | None:
    """The device that knows it; None where it knows already, or says otherwise. What is configured is not changed."""
    loggers = list(device.loggers)
    mine = [at for at, logger in enumerate(loggers) if same_serial(logger.serial, serial)]
    if not mine:
        mine = [at for at, logger in enumerate(loggers) if logger.serial is None] or ([0] if len(loggers) == 1 else [])
    if not loggers:
        loggers, mine = [Logger(serial=serial or None)], [0]
    changed = False
    for at in mine:
        said = answered(loggers[at], told)
        changed = changed or said != loggers[at]
        loggers[at] = said
    if not changed:
        return None
    return device.model_copy(update={"loggers": tuple(loggers), "configured_at": datetime.now(UTC)})


def answered(logger: Logger, told: Stamping) -> Logger:
    """With what was told where it says nothing."""
    said = {
        "utc_offset_minutes": told.utc_offset_minutes,
        "stamp": told.stamp,
        "interval_s": told.interval_s,
        "date_order": told.date_order,
    }
    update = {name: value for name, value in said.items() if value is not None and getattr(logger, name) is None}
    return logger.model_copy(update=update)

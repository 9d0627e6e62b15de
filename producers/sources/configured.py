"""The devices' configurations as the broker has them, and as it had them when it last answered. Knows both.

A file without a word about its clock needs its device's; that is known also after a start without a broker.
"""

import threading
from contextlib import suppress
from pathlib import Path

from producers.settings import EdgeSettings
from producers.stations.devices import read_devices
from schemas.devices import Device
from schemas.errors import Unavailable


class Configured:
    """Asks when a source starts; shared by all sources."""

    def __init__(self, address: str, settings: EdgeSettings, *, remembered: Path) -> None:
        self._address = address
        self._settings = settings
        self._remembered = remembered
        self._lock = threading.Lock()

    def device(self, device_id: str) -> Device | None:
        """None where it is not configured, or was never known here."""
        with self._lock:
            try:
                device = read_devices(self._address, security=self._settings.security()).get(device_id)
            except Unavailable:
                return recall(self._remembered, device_id)
            remember(self._remembered, device_id, device)
        return device


def remember(folder: Path, device_id: str, device: Device | None) -> None:
    """What the broker says of a device, beside the spool. Best effort."""
    with suppress(OSError):
        if device is None:
            _path(folder, device_id).unlink(missing_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _path(folder, device_id).write_text(device.model_dump_json())


def recall(folder: Path, device_id: str) -> Device | None:
    """What the broker said last; None where that is not known here."""
    with suppress(OSError, ValueError):
        return Device.model_validate_json(_path(folder, device_id).read_bytes())
    return None


def _path(folder: Path, device_id: str) -> Path:
    return folder / f"device-{device_id.replace('/', '_')}.json"

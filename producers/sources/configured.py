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
        path = self._remembered / f"device-{device_id.replace('/', '_')}.json"
        with self._lock:
            try:
                device = read_devices(self._address, security=self._settings.security()).get(device_id)
            except Unavailable:
                with suppress(OSError, ValueError):
                    return Device.model_validate_json(path.read_bytes())
                return None
            with suppress(OSError):
                if device is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_text(device.model_dump_json())
        return device

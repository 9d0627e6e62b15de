"""Signs what leaves an edge. Knows keys by device; sends nothing.

A device's key stands in `edge.toml` (`frame_key`, for further devices `frame_keys`). On the server itself, files that
people upload and what is sent from its shell are signed with the server's key. Without either, records go unsigned.

What waits in the spool is not signed yet: it is when it is sent, with the key of that time.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from infra.security import keys
from producers.settings import EdgeSettings
from schemas.signing import HEADER, Signer

Headers = list[tuple[str, bytes]]


class Signatures:
    """Raises `Refused` for a key that is none."""

    def __init__(self, settings: EdgeSettings, *, server: Path | None = None) -> None:
        said = dict(settings.frame_keys)
        if settings.frame_key is not None and settings.device_id is not None:
            said.setdefault(settings.device_id, settings.frame_key)
        self._keys: Mapping[str, tuple[bytes, int]] = {
            device_id: keys.parsed(key.get_secret_value()) for device_id, key in said.items()
        }
        self._server = server if server is not None else keys.folder()
        self._master = str(self._server / keys.MASTER)
        self._signers: dict[tuple[str, str], Signer] = {}

    def headers(self, topic: str, device_id: str, value: bytes) -> Headers | None:
        """For a record of the device's."""
        signer = self._signers.get((topic, device_id)) or self._signer(topic, device_id)
        return None if signer is None else [(HEADER, signer.sign(value))]

    def _signer(self, topic: str, device_id: str) -> Signer | None:
        if device_id in self._keys:
            key, serial = self._keys[device_id]
            signer: Signer | None = Signer(key, serial, topic=topic, device_id=device_id)
        elif os.path.exists(self._master):  # noqa: PTH110 - for each frame of an edge without keys, so it is to be quick
            signer = keys.on_behalf(self._server, device_id, topic=topic)
        else:  # the first `telltale device add` may be yet to come
            signer = None
        if signer is not None:
            self._signers[topic, device_id] = signer
        return signer

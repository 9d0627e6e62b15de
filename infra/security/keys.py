"""Keys with which devices sign frames. Knows two files in a folder; knows no broker.

`master.key` is secret: a device's key is derived from it, the device's name and a serial number, so nothing secret has
to be stored for a device or sent by a topic. `devices.json` says which serials count, and from when on a device must
sign; it holds no secret. Serial 0 is the server's own, with which it signs what it sends on a device's behalf
(uploaded files, rejected frames sent again); it is never handed out.

A frame is judged by when the broker took it: a replay judges as the first run did, also after a rotation.
"""

import base64
import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra import stack
from schemas.errors import Refused, Unavailable
from schemas.rejection import Rejection
from schemas.signing import Signer, serial_of

MASTER, REGISTER, LOCK = "master.key", "devices.json", "lock"
FOLDER_SETTING = "TELLTALE_SECURITY"
MASTER_BYTES = 32
SERVER_SERIAL = 0
GRACE = timedelta(hours=24)
"""How long the key before a rotation still counts: the time to bring the new `edge.toml` to the device."""
CACHED_MAX = 100_000
"""Signers kept; some 1 kB each."""


def folder(named: Path | None = None) -> Path:
    """Where the two files are: `TELLTALE_SECURITY`, else `security/` in the stack's folder."""
    said = os.environ.get(FOLDER_SETTING)
    return named or (Path(said) if said else stack.folder() / "security")


@dataclass(frozen=True, slots=True)
class Key:
    """One of a device's keys: it counts for what the broker took before `until`."""

    serial: int
    made: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """What is known of one device: it must sign what the broker takes from `required` on."""

    required: datetime
    keys: tuple[Key, ...]

    @property
    def newest(self) -> Key:
        return self.keys[-1]

    @property
    def is_revoked(self) -> bool:
        return self.newest.until is not None


Register = Mapping[str, Signing]


def derive(master: bytes, device_id: str, serial: int) -> bytes:
    """A device's key."""
    return hmac.digest(master, f"telltale/{device_id}/{serial}".encode(), "sha256")


def spelled(key: bytes, serial: int) -> str:
    """As it stands in `edge.toml`."""
    return f"{serial}.{base64.urlsafe_b64encode(key).decode().rstrip('=')}"


def parsed(said: str) -> tuple[bytes, int]:
    """(key, serial). Raises `Refused`, which does not repeat the key."""
    serial, _, text = said.partition(".")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        number = int(serial)
    except ValueError:
        key, number = b"", -1
    if len(key) != MASTER_BYTES or not 0 <= number < 1 << 32:
        raise Refused("frame_key: expected SERIAL.KEY as `telltale device add` printed it")
    return key, number


# -- the files --


def read_master(place: Path) -> bytes | None:
    """The secret; None where there is none, or it is not ours to read. Raises `Refused` for one that is damaged."""
    try:
        text = (place / MASTER).read_text().strip()
    except (FileNotFoundError, PermissionError):
        return None
    except OSError as error:
        raise Unavailable(f"{place / MASTER}: {error.strerror}") from None
    try:
        master = bytes.fromhex(text)
    except ValueError:
        master = b""
    if len(master) != MASTER_BYTES:
        raise Refused(f"{place / MASTER}: expected {2 * MASTER_BYTES} hexadecimal digits; restore it from a backup")
    return master


def read_register(place: Path) -> dict[str, Signing]:
    """Every device that ever had a key. Raises `Refused` where the file cannot be understood."""
    try:
        said = json.loads((place / REGISTER).read_bytes())
        return {name: _signing(each) for name, each in said["devices"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{place / REGISTER} cannot be read ({error}); restore it from a backup") from None


def _signing(said: Mapping[str, Any]) -> Signing:
    keys = [
        Key(int(each["serial"]), _time(each["made"]), _time(each["until"]) if each["until"] else None)
        for each in said["keys"]
    ]
    if not keys:
        raise ValueError("a device without keys")
    return Signing(_time(said["required"]), tuple(keys))


def _time(said: str) -> datetime:
    return datetime.fromisoformat(said)


def _write_register(place: Path, register: Register) -> None:
    said = {name: _told(one) for name, one in sorted(register.items())}
    _write(place / REGISTER, json.dumps({"devices": said}, indent=1).encode(), mode=0o644)


def _told(one: Signing) -> dict[str, Any]:
    keys = [
        {"serial": key.serial, "made": key.made.isoformat(), "until": key.until.isoformat() if key.until else None}
        for key in one.keys
    ]
    return {"required": one.required.isoformat(), "keys": keys}


def _write(path: Path, content: bytes, *, mode: int) -> None:
    coming = path.with_name(path.name + ".coming")
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    coming.replace(path)


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """One change at a time."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"{place}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


# -- what people do --


def issue(place: Path, device_id: str, *, now: datetime, grace: timedelta = GRACE) -> str:
    """A new key for a device, as `edge.toml` has it; the ones before end after `grace`.

    A device that had none and did write before must sign from the end of the grace on, a new one at once: `grace` 0.
    """
    with _held(place):
        master = read_master(place)
        register = read_register(place)
        if master is None:
            if register or (place / MASTER).exists():
                raise Refused(f"{place / MASTER} is missing or may not be read: without it no frame could be checked")
            master = secrets.token_bytes(MASTER_BYTES)
            _write(place / MASTER, master.hex().encode() + b"\n", mode=0o600)
        known = register.get(device_id)
        ends = now + grace
        before = () if known is None else tuple(_until(key, ends) for key in known.keys)
        serial = 1 if known is None else known.newest.serial + 1
        required = ends if known is None else known.required
        register[device_id] = Signing(required, (*before, Key(serial, now)))
        _write_register(place, register)
    return spelled(derive(master, device_id, serial), serial)


def end(place: Path, device_id: str, *, now: datetime) -> None:
    """No key of the device's counts for what comes from now on, and without one it may not write."""
    with _held(place):
        register = read_register(place)
        known = register.get(device_id)
        if known is not None:
            register[device_id] = replace(known, keys=tuple(_until(key, now) for key in known.keys))
            _write_register(place, register)


def _until(key: Key, at: datetime) -> Key:
    return key if key.until is not None and key.until <= at else replace(key, until=at)


# -- what the stage does --


@dataclass(frozen=True, slots=True)
class _Judged:
    """A device as the hot path wants it: milliseconds."""

    required_ms: int
    until_ms: Mapping[int, int | None]


@dataclass(slots=True)
class Keyring:
    """Judges records by their signatures. Rereads the register when it has changed."""

    place: Path
    all_must_sign: bool = False
    _master: bytes | None = None
    _seen: tuple[int, int] | None = None  # of the register: when it was changed, and which file it is
    _devices: dict[bytes, _Judged] = field(default_factory=dict)
    _signers: dict[tuple[bytes, int, str], Signer] = field(default_factory=dict)

    def refresh(self) -> None:
        """Raises `Refused` where frames are to be checked and there is nothing to check them by."""
        try:
            found = (self.place / REGISTER).stat()
            seen = found.st_mtime_ns, found.st_ino
        except OSError:
            seen = None
        if seen != self._seen:
            self._devices = {name.encode(): _judged(one) for name, one in read_register(self.place).items()}
            self._seen = seen
        if (self._devices or self.all_must_sign) and self._master is None:
            self._master = read_master(self.place)
            if self._master is None:
                raise Refused(
                    f"frames must be signed and {self.place / MASTER} is missing or may not be read: bring it here, "
                    f"or name its folder by {FOLDER_SETTING}. `telltale device add` makes the first one"
                )

    @property
    def is_idle(self) -> bool:
        """Whether nobody has to sign."""
        return not self._devices and not self.all_must_sign

    def refusal(
        self, topic: str, device: bytes, value: bytes, signature: bytes | None, appended_ms: int
    ) -> tuple[Rejection, str] | None:
        """Why the record is not the device's; None: it is, or need not be proved."""
        judged = self._devices.get(device)
        if judged is None:
            if not self.all_must_sign:
                return None
            judged = _UNKNOWN
        if signature is None:
            if appended_ms < judged.required_ms:
                return None
            return Rejection.UNSIGNED, f"{_shown(device)} must sign: frame_key in edge.toml, an edge that knows it"
        serial = serial_of(signature)
        if serial is None:
            return Rejection.WRONG_SIGNATURE, f"{_shown(device)}: the header is no signature"
        signer = self._signers.get((device, serial, topic)) or self._signer(device, serial, topic)
        if not signer.made(signature, value):
            return Rejection.WRONG_SIGNATURE, f"not made with key {serial} of {_shown(device)} over this record"
        return None if serial == SERVER_SERIAL else _ended(judged, device, serial, appended_ms)

    def _signer(self, device: bytes, serial: int, topic: str) -> Signer:
        if len(self._signers) >= CACHED_MAX:
            self._signers.clear()
        device_id = device.decode(errors="replace")
        key = derive(self._master or b"", device_id, serial)
        signer = self._signers[device, serial, topic] = Signer(key, serial, topic=topic, device_id=device_id)
        return signer


_UNKNOWN = _Judged(0, {})


def _ended(judged: _Judged, device: bytes, serial: int, appended_ms: int) -> tuple[Rejection, str] | None:
    until = judged.until_ms.get(serial, 0)
    if until is None or appended_ms < until:
        return None
    return Rejection.ENDED_KEY, f"key {serial} of {_shown(device)} was replaced or revoked"


def _judged(one: Signing) -> _Judged:
    return _Judged(_ms(one.required), {key.serial: _ms(key.until) if key.until else None for key in one.keys})


def _ms(at: datetime) -> int:
    return round(at.astimezone(UTC).timestamp() * 1000)


def _shown(device: bytes) -> str:
    return device[:200].decode(errors="replace")


def on_behalf(place: Path, device_id: str, *, topic: str) -> Signer | None:
    """The server's signer for what it sends in a device's name; None where this machine has no master."""
    master = read_master(place)
    if master is None:
        return None
    return Signer(derive(master, device_id, SERVER_SERIAL), SERVER_SERIAL, topic=topic, device_id=device_id)

"""A certificate put to the sensors of an instrument, from a day on. Pure: a device in, a device out.

The calibration in force at that moment ends there; what was typed into the logger, and how a vane is mounted, goes on.
A later calibration keeps its beginning.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.devices import Calibration, Device, Sensor
from schemas.errors import Refused
from schemas.iea.certificate import Certificate

EVER = datetime.min.replace(tzinfo=UTC)


def sensors_of(
    device: Device, certificate: Certificate, *, point: str | None, channel: str | None, at: datetime
) -> list[Sensor]:
    """Which sensors are meant: by name, else by the certificate's serial number. Raises `Refused` for none."""
    if channel is not None:
        found = [one for one in device.sensors if one.channel == channel]
        what = f'channel "{channel}"'
    elif point is not None:
        found = [one for one in device.sensors if one.point == point]
        what = f'measurement point "{point}"'
    else:
        serial = certificate.serial
        found = [one for one in device.sensors if serial and any(each.serial == serial for each in one.calibrations)]
        what = f'instrument with the serial number "{serial}"'
    if not found:
        names = ", ".join(dict.fromkeys(one.point for one in device.sensors))
        raise Refused(f"device {device.device_id} has no {what}; say which with --point or --channel ({names})")
    points = list(dict.fromkeys(one.point for one in found))
    if channel is None and point is None and len(points) > 1:
        raise Refused(
            f"device {device.device_id} has the instrument {certificate.serial} at several points "
            f"({', '.join(points)}): say which with --point"
        )
    return found


def calibrated(
    device: Device,
    sensors: Sequence[Sensor],
    certificate: Certificate,
    *,
    since: datetime | None,
    now: datetime,
    who: str,
) -> Device:
    """The device with the certificate in force from `since` on (None: since ever)."""
    meant = {sensor.channel for sensor in sensors}
    changed = tuple(
        sensor.model_copy(update={"calibrations": dated(sensor.calibrations, certificate, since=since)})
        if sensor.channel in meant
        else sensor
        for sensor in device.sensors
    )
    made = device.model_copy(update={"sensors": changed, "configured_at": now, "configured_by": who})
    return Device.model_validate(made.model_dump())


def dated(
    calibrations: Sequence[Calibration], certificate: Certificate, *, since: datetime | None
) -> tuple[Calibration, ...]:
    """The list with the certificate's numbers from `since` to where the calibration in force then ends."""
    numbers = {
        "slope": certificate.slope,
        "offset": certificate.offset,
        "serial": certificate.serial,
        "instrument": certificate.instrument,
        "certificate": certificate.certificate,
        "laboratory": certificate.laboratory,
        "calibrated_on": certificate.calibrated_on,
    }
    out: list[Calibration] = []
    done = False
    for each in calibrations:
        inside = (since is None or each.valid_to is None or since < each.valid_to) and (
            since is None or each.valid_from is None or each.valid_from <= since
        )
        if done or not inside:
            out.append(each)
            continue
        done = True
        said = {name: value for name, value in numbers.items() if value is not None}
        if since is not None and each.valid_from != since:
            out.append(each.model_copy(update={"valid_to": since}))
        start = each.valid_from if since is None else since
        out.append(each.model_copy(update={**said, "valid_from": start}))
    if not done:
        following = [each.valid_from for each in calibrations if since and each.valid_from and each.valid_from > since]
        new = Calibration(valid_from=since, valid_to=min(following, default=None), **numbers)
        out.append(new)
        out.sort(key=lambda each: (each.valid_from is not None, each.valid_from or EVER))
    return tuple(out)

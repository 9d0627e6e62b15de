"""Calibration numbers out of what the data model says of one interval. Pure; knows no dates, no file."""

from collections.abc import Iterator, Sequence
from datetime import date

from schemas.devices import Calibration
from schemas.iea.model import CalibrationCertificate, InstalledSensor, LoggerMeasurementConfig, MountingArrangement


class Ambiguous(ValueError):  # noqa: N818 - named after what is wrong with the file
    """Several certificates, and nothing tells which one counts."""


def certificate_for(measurement_type_id: str, sensor: InstalledSensor) -> CalibrationCertificate | None:
    """The certificate of an instrument that is about a quantity; one without a measurement type must be the only one.

    Of several, the newest that is not younger than the installation: a later one was made after the campaign.
    Raises `Ambiguous`.
    """
    every = sensor.calibration or []
    if len(every) == 1 and every[0].measurement_type_id is None:
        return every[0]
    for index, one in enumerate(every):
        if one.measurement_type_id is None:
            raise Ambiguous(f"[{index}] must say its measurement_type_id, because there are {len(every)} calibrations")
    fitting = [one for one in every if one.measurement_type_id == measurement_type_id]
    if len(fitting) <= 1:
        return fitting[0] if fitting else None
    installed = sensor.date_from.date().isoformat()
    dates = [one.date_of_calibration or "" for one in fitting]
    newest = max((date for date in dates if date and date <= installed), default=None)
    chosen = [one for date, one in zip(dates, fitting, strict=True) if date == newest]
    if len(chosen) != 1:
        raise Ambiguous(
            f"has {len(fitting)} entries for {measurement_type_id}, and their date_of_calibration does not tell "
            f"which one was valid when the sensor was installed ({installed})"
        )
    return chosen[0]


def numbers_of(
    config: LoggerMeasurementConfig,
    instrument: tuple[InstalledSensor, CalibrationCertificate | None] | None,
    mounting: MountingArrangement | None,
    *,
    vane: bool,
) -> Calibration:
    """What the three lists say about one interval."""
    sensor, certificate = instrument or (None, None)
    logger_slope, logger_offset = _slope_and_offset(config)
    slope, offset = _slope_and_offset(certificate) if certificate else (None, None)
    words = [word for word in (sensor.oem, sensor.model) if word] if sensor else []
    return Calibration(
        logger_slope=logger_slope,
        logger_offset=logger_offset,
        slope=slope,
        offset=offset,
        dead_band_orientation_deg=mounting.vane_dead_band_orientation_deg if mounting and vane else None,
        serial=sensor.serial_number if sensor else None,
        instrument=" ".join(words) or None,
        certificate=certificate.calibration_id if certificate else None,
        laboratory=certificate.calibration_organisation if certificate else None,
        calibrated_on=_day(certificate.date_of_calibration) if certificate else None,
    )


def _day(text: str | None) -> str | None:
    """A date, where it is one."""
    try:
        return None if text is None else str(date.fromisoformat(text[:10]))
    except ValueError:
        return None


def _slope_and_offset(
    numbers: LoggerMeasurementConfig | CalibrationCertificate,
) -> tuple[float | None, float | None]:
    """A sensitivity, by the data model's words, "is the same as 1/slope with zero for offset"."""
    if numbers.slope is None and numbers.sensitivity is not None:
        return 1 / numbers.sensitivity, 0.0 if numbers.offset is None else numbers.offset
    return numbers.slope, numbers.offset


def joined(pieces: Sequence[Calibration]) -> Iterator[Calibration]:
    """Neighbours with the same numbers as one."""
    pending: Calibration | None = None
    for piece in pieces:
        same = {"valid_from": piece.valid_from, "valid_to": piece.valid_to}
        if pending and pending.valid_to == piece.valid_from and pending.model_copy(update=same) == piece:
            pending = pending.model_copy(update={"valid_to": piece.valid_to})
            continue
        if pending:
            yield pending
        pending = piece
    if pending:
        yield pending

"""The IEA Task 43 WRA data model beside the data: what was measured with what, and what the logger wrote.

The data are as logged, in a plain CSV whose columns are called as in the model: a reader of the model calibrates them.
Calibrated values would be calibrated twice.
"""

import json

from dashboard.exports.choice import Choice
from dashboard.exports.formats import Source, csv_text
from dashboard.exports.outputs import Outputs
from dashboard.exports.query import Tally
from schemas.errors import Refused
from schemas.iea.export import model_of

ORGANISATION = "Telltale"


def write(choice: Choice, source: Source, out: Outputs, tally: Tally) -> None:
    """The data, and `NAME.json` beside it. Dated by the configuration. Raises `Refused`."""
    channels = [column.channel for column in choice.columns]
    if repeated := sorted({channel for channel in channels if channels.count(channel) > 1}):
        raise Refused(
            f"channel {repeated[0]} is of several devices, and the data model names columns once; choose one device"
        )
    chosen = {column.name for column in choice.columns}
    devices = [
        device.model_copy(
            update={"sensors": tuple(s for s in device.sensors if f"{device.device_id}/{s.channel}" in chosen)}
        )
        for device in choice.devices
    ]
    if not devices:
        raise Refused("what was chosen has no configuration, and the data model is made of it")
    newest = max(devices, key=lambda device: device.configured_at)
    made = model_of(devices, author=newest.configured_by, organisation=ORGANISATION, today=newest.configured_at.date())
    model = json.dumps(made.model, indent=2, ensure_ascii=False, sort_keys=True)
    out.beside(f"{out.path.stem}.json").write(f"{model}\n".encode())
    csv_text.write(choice, source, out, tally, has_comments=False)

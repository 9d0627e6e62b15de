"""The life of an alarm, as one table. Pure: knows phases and causes; knows no rule and no time.

Shelved and suppressed alarms live on underneath: what happens to the condition moves the phase below, in silence, and
when the cover is taken off the alarm is what it has become.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Where an alarm stands."""

    NORMAL = "normal"
    PENDING = "pending"  # the condition holds, but not for long enough yet
    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    LATCHED = "latched"  # the condition is gone; nobody has acknowledged that it was there
    SHELVED = "shelved"  # silenced by somebody, for a time
    SUPPRESSED = "suppressed"  # silenced because the cause is known


class Cause(StrEnum):
    """What moves it."""

    HOLDS = "holds"  # the condition is true
    DELAY_OVER = "delay_over"  # it was, for the on-delay
    CALM = "calm"  # it was false for the off-delay
    CALM_LATCHED = "calm_latched"  # the same, for a rule that latches
    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SHELF_OVER = "shelf_over"
    SUPPRESS = "suppress"
    RELEASE = "release"  # the known cause is gone


COVERS = frozenset({Phase.SHELVED, Phase.SUPPRESSED})
UNDER = "what is below"

TABLE: dict[tuple[Phase, Cause], Phase | str] = {
    (Phase.NORMAL, Cause.HOLDS): Phase.PENDING,
    (Phase.PENDING, Cause.DELAY_OVER): Phase.RAISED,
    (Phase.PENDING, Cause.CALM): Phase.NORMAL,
    (Phase.PENDING, Cause.CALM_LATCHED): Phase.NORMAL,
    (Phase.RAISED, Cause.CALM): Phase.NORMAL,
    (Phase.RAISED, Cause.CALM_LATCHED): Phase.LATCHED,
    (Phase.RAISED, Cause.ACKNOWLEDGE): Phase.ACKNOWLEDGED,
    (Phase.RAISED, Cause.SHELVE): Phase.SHELVED,
    (Phase.RAISED, Cause.SUPPRESS): Phase.SUPPRESSED,
    (Phase.ACKNOWLEDGED, Cause.CALM): Phase.NORMAL,
    (Phase.ACKNOWLEDGED, Cause.CALM_LATCHED): Phase.NORMAL,
    (Phase.ACKNOWLEDGED, Cause.SHELVE): Phase.SHELVED,
    (Phase.ACKNOWLEDGED, Cause.SUPPRESS): Phase.SUPPRESSED,
    (Phase.LATCHED, Cause.HOLDS): Phase.RAISED,
    (Phase.LATCHED, Cause.ACKNOWLEDGE): Phase.NORMAL,
    (Phase.LATCHED, Cause.SHELVE): Phase.SHELVED,
    (Phase.SHELVED, Cause.UNSHELVE): UNDER,
    (Phase.SHELVED, Cause.SHELF_OVER): UNDER,
    (Phase.SUPPRESSED, Cause.SHELVE): Phase.SHELVED,
    (Phase.SUPPRESSED, Cause.RELEASE): UNDER,
}


def move(phase: Phase, below: Phase, cause: Cause) -> tuple[Phase, Phase]:
    """Phase and the phase below it after a cause; unchanged where the table knows no way."""
    to = TABLE.get((phase, cause))
    if to is None:
        if phase in COVERS:  # the life goes on underneath
            under = TABLE.get((below, cause))
            if isinstance(under, Phase) and under not in COVERS:
                return phase, under
        return phase, below
    if not isinstance(to, Phase):
        return below, Phase.NORMAL
    if to in COVERS:
        return to, below if phase in COVERS else phase
    return to, Phase.NORMAL


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> normal"]
    for (phase, cause), to in TABLE.items():
        if isinstance(to, Phase):
            lines.append(f"    {phase} --> {to}: {cause}")
        else:
            targets = [below for below in Phase if (below, _cover(phase)) in TABLE and below not in COVERS]
            lines += [f"    {phase} --> {below}: {cause}" for below in (Phase.NORMAL, *targets)]
    return "\n".join(lines) + "\n"


def _cover(phase: Phase) -> Cause:
    return Cause.SHELVE if phase is Phase.SHELVED else Cause.SUPPRESS

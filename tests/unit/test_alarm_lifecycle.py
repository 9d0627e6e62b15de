"""The life-cycle table: whole, without dead ends, and drawn in the README."""

from pathlib import Path

import pytest

from streams.alarms.lifecycle import COVERS, TABLE, UNDER, Cause, Phase, diagram, move

README = Path(__file__).parents[2] / "streams" / "README.md"


def steps() -> set[tuple[Phase, Phase]]:
    """Every step from a state to another, with all that may lie below."""
    states = {(phase, below) for phase in Phase for below in Phase if (phase in COVERS) or below is Phase.NORMAL}
    taken = {((phase, below), move(phase, below, cause)) for phase, below in states for cause in Cause}
    return {(before[0], after[0]) for before, after in taken if before[0] is not after[0]}


@pytest.mark.parametrize("phase", Phase)
def test_every_state_can_be_reached_and_left(phase: Phase) -> None:
    reached, todo = {Phase.NORMAL}, [Phase.NORMAL]
    while todo:
        at = todo.pop()
        new = {after for before, after in steps() if before is at} - reached
        reached |= new
        todo += new
    assert phase in reached
    assert any(before is phase for before, _ in steps())


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_moves_something(cause: Cause) -> None:
    assert any(key[1] is cause for key in TABLE)


@pytest.mark.parametrize("cover", sorted(COVERS))
def test_life_goes_on_under_a_cover_and_is_found_when_it_is_taken_off(cover: Phase) -> None:
    on, off = (Cause.SHELVE, Cause.UNSHELVE) if cover is Phase.SHELVED else (Cause.SUPPRESS, Cause.RELEASE)
    covered = move(Phase.RAISED, Phase.NORMAL, on)
    assert covered == (cover, Phase.RAISED)
    assert move(*move(*covered, Cause.CALM), off) == (Phase.NORMAL, Phase.NORMAL)
    assert move(*move(*covered, Cause.ACKNOWLEDGE), off) == (Phase.ACKNOWLEDGED, Phase.NORMAL)
    assert move(*covered, off) == (Phase.RAISED, Phase.NORMAL)


def test_a_shelf_over_a_suppressed_alarm_keeps_what_is_below() -> None:
    assert move(Phase.SUPPRESSED, Phase.ACKNOWLEDGED, Cause.SHELVE) == (Phase.SHELVED, Phase.ACKNOWLEDGED)


@pytest.mark.parametrize("phase", Phase)
def test_what_the_table_does_not_know_changes_nothing(phase: Phase) -> None:
    for cause in Cause:
        if (phase, cause) not in TABLE and phase not in COVERS:
            assert move(phase, Phase.NORMAL, cause) == (phase, Phase.NORMAL)


def test_only_covers_lead_to_what_is_below() -> None:
    assert {phase for (phase, _), to in TABLE.items() if to == UNDER} == COVERS


def test_the_readme_shows_the_table() -> None:
    """To draw it anew: `python -c "from streams.alarms.lifecycle import diagram; print(diagram())"`."""
    text = README.read_text()
    shown = text.split("<!-- life cycle: begin -->\n")[1].split("<!-- life cycle: end -->")[0]
    assert shown == f"```mermaid\n{diagram()}```\n"

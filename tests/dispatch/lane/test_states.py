"""The state machines of a lane: complete tables, and the same transitions as the diagram of the documentation."""

import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from discue.dispatch.lane.states import (
    BREAKER_TRANSITIONS,
    CHECK_TRANSITIONS,
    FLUSH_TRANSITIONS,
    LANE_TRANSITIONS,
    BreakerState,
    CheckState,
    FlushState,
    LaneState,
    transition,
)

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"
MACHINES = [
    (LaneState, LANE_TRANSITIONS),
    (BreakerState, BREAKER_TRANSITIONS),
    (FlushState, FLUSH_TRANSITIONS),
    (CheckState, CHECK_TRANSITIONS),
]


@pytest.mark.parametrize(("states", "table"), MACHINES, ids=lambda each: getattr(each, "__name__", ""))
def test_table_names_every_state_and_each_can_be_reached(states: type[Enum], table: dict[Any, frozenset[Any]]) -> None:
    assert set(table) == set(states)
    reachable = set().union(*table.values())
    assert set(states) - reachable <= {next(iter(states))}


def test_diagram_of_a_lane_has_the_transitions_of_the_table() -> None:
    diagram = PAGE.read_text().split("### States of a lane")[1].split("```")[1]
    drawn = set(re.findall(r"^  (\w+) --> (\w+)", diagram, re.MULTILINE))
    # The page says below the diagram that every state can lead to `closed`.
    table = {
        (before.name.lower(), after.name.lower())
        for before, targets in LANE_TRANSITIONS.items()
        for after in targets
        if after is not LaneState.CLOSED or before in (LaneState.ENDING, LaneState.DRAINING)
    }
    assert drawn == table


def test_transition_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no transition"):
        transition(LANE_TRANSITIONS, LaneState.DRAINING, LaneState.RUNNING)

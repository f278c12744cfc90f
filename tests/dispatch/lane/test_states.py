"""The state machines of a lane. `tests/docs/test_diagrams.py` compares them with the diagrams."""

from enum import Enum
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


def test_transition_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no transition"):
        transition(LANE_TRANSITIONS, LaneState.DRAINING, LaneState.RUNNING)

"""The state machines of a lane. `tests/docs/test_diagrams.py` compares them with the diagrams."""

import pytest

from discue.dispatch.lane.states import LANE_TRANSITIONS, LaneState, transition


def test_transition_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no transition"):
        transition(LANE_TRANSITIONS, LaneState.DRAINING, LaneState.RUNNING)

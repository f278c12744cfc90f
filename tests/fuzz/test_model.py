"""Any sequence of calls leaves the service as a small model of it says, on both engines."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.calls.domains import DomainCalls
from tests.fuzz.calls.schemas import SchemaCalls
from tests.fuzz.calls.users import UserCalls
from tests.support.served_api import Service

SEQUENCES = int(os.environ.get("FUZZ_CASES", "0")) // 50
"""How many sequences a long run makes, other ones each time; 0 for a short run, which is always the same."""

_SHORT = 24
_STEPS = 30


def test_the_service_is_as_its_model_says(service: Service) -> None:
    profile = settings(
        max_examples=SEQUENCES or _SHORT,
        stateful_step_count=_STEPS,
        derandomize=not SEQUENCES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    class CallsToThis(UserCalls, DomainCalls, SchemaCalls):
        def __init__(self) -> None:
            super().__init__(service)

    run_state_machine_as_test(CallsToThis, settings=profile)

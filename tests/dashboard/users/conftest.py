from tests.control.conftest import cast, control, engine_name, pytest_pyfunc_call, runner
from tests.store.conftest import store

__all__ = ["cast", "control", "engine_name", "pytest_pyfunc_call", "runner", "store"]

from tests.control.conftest import cast, control, engine_name, pytest_pyfunc_call, runner

__all__ = ["cast", "control", "engine_name", "pytest_pyfunc_call", "runner"]

from tests.coroutines import pytest_pyfunc_call
from tests.dispatch.conftest import runner

__all__ = ["pytest_pyfunc_call", "runner"]

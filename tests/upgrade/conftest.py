"""The upgrade is tested on every engine."""

from tests.faults.conftest import pytest_pyfunc_call, tell
from tests.support.databases import engine_name

__all__ = ["engine_name", "pytest_pyfunc_call", "tell"]

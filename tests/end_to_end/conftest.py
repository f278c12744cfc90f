"""The product's main stories are told on every engine: the address of the database is all that differs."""

from tests.databases import database, engine_name
from tests.faults.conftest import pytest_pyfunc_call

__all__ = ["database", "engine_name", "pytest_pyfunc_call"]

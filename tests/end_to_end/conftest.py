"""The product's main stories are told on every engine: the address of the database is all that differs."""

from tests.faults.conftest import pytest_pyfunc_call
from tests.support.databases import database, engine_name

__all__ = ["database", "engine_name", "pytest_pyfunc_call"]

"""Tests that are coroutines run on a loop of their own."""

from tests.support.coroutines import pytest_pyfunc_call, runner

__all__ = ["pytest_pyfunc_call", "runner"]

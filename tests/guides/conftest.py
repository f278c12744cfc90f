"""The service of the tests of the API, which has the documentation."""

from tests.api.conftest import cast, pytest_generate_tests, pytest_pyfunc_call, runner, service

__all__ = ["cast", "pytest_generate_tests", "pytest_pyfunc_call", "runner", "service"]

from tests.support.unit_fixtures import cast, database, engine_name, pytest_pyfunc_call, runner

__all__ = ["cast", "database", "engine_name", "pytest_pyfunc_call", "runner"]

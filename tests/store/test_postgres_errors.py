"""Errors of PostgreSQL in the log."""

import asyncpg

from discue.store.postgres.connection import without_data


def chained(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def test_a_value_that_the_client_refuses_is_not_quoted() -> None:
    error = chained(asyncpg.DataError("invalid input for query argument $1: 'secret'"), TypeError("'secret'"))
    told = without_data(error)
    assert "secret" not in f"{told!r} {told.__cause__!r}"
    assert "TypeError" in str(told)


def test_a_lost_connection_is_told_as_one_also_when_the_server_said_why() -> None:
    lost = chained(asyncpg.ConnectionDoesNotExistError("connection was closed"), asyncpg.AdminShutdownError("stopped"))
    assert without_data(lost) is lost

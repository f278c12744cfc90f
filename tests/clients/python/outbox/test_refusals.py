"""Errors of the service that are refusals of messages, and others."""

import pytest

from discue_client import APIError, BadRequest, Conflict, DiscueError, NotFound, TimedOut, UnexpectedResponse
from discue_client.errors import FieldError, TooLarge, ValidationFailed
from discue_client.outbox.refusals import is_refusal, refused_rows
from discue_client.outbox.rows import Row


def unexpected(status: int) -> UnexpectedResponse:
    error = UnexpectedResponse("from a proxy")
    error.status = status
    return error


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(code="invalid_json"),
        ValidationFailed(code="schema_violation"),
        TooLarge(code="body_too_large"),
        unexpected(413),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.status}",
)
def test_messages_are_the_reason_of_these_errors(error: DiscueError) -> None:
    assert is_refusal(error)


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(code="invalid_header"),
        ValidationFailed(code="idempotency_key_reused"),
        NotFound(code="not_found"),
        Conflict(code="request_in_flight"),
        APIError(status=418),
        TimedOut(),
        unexpected(502),
        unexpected(400),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'code', '')}",
)
def test_other_errors_give_up_no_message(error: DiscueError) -> None:
    assert not is_refusal(error)


def test_rows_that_an_error_names_get_their_own_reasons() -> None:
    rows = [Row(number, None, b"", "text", "{}") for number in (7, 8, 9)]
    faults = (
        ("/messages/2/data/a", "must be a number"),
        ("/messages/0/key", "is too long"),
        ("/messages/2/data/b", "is required"),
        ("/messages/17/data", "is not in the batch"),
        ("/other", "is wrong"),
    )
    errors = tuple(FieldError(*fault) for fault in faults)
    error = ValidationFailed(request="POST /x", status=422, code="schema_violation", errors=errors)

    assert refused_rows(error, rows) == {
        7: "POST /x: 422 schema_violation: /key is too long",
        9: "POST /x: 422 schema_violation: /data/a must be a number; /data/b is required",
    }
    assert refused_rows(unexpected(413), rows) == {}

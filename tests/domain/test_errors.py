import inspect

import pytest

from discue.domain import errors
from discue.domain.errors import REASONS, DiscueError, reason_phrase

TREE = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, DiscueError) and not value.__name__.startswith("_")
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_has_a_status_and_the_meaning_of_its_code_as_its_default_detail(kind: type[DiscueError]) -> None:
    error = kind(code="not_found")

    assert error.code == "not_found"
    assert error.detail == str(error) == REASONS["not_found"].meaning
    assert str(kind("The tank is empty.", code="not_found")) == "The tank is empty."
    assert error.status == REASONS["not_found"].status == 404


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.StoreUnavailable, errors.Overloaded])
def test_unavailable_has_a_retry_after(kind: type[errors.Unavailable]) -> None:
    assert kind().status == 503
    assert kind().retry_after_seconds == 1
    assert kind(retry_after_seconds=7).retry_after_seconds == 7


@pytest.mark.parametrize(
    ("kind", "status", "title"),
    [
        (errors.QuotaExceeded, 402, "Payment Required"),
        (errors.PayloadTooLarge, 413, "Payload Too Large"),
        (errors.UnsupportedMediaType, 415, "Unsupported Media Type"),
        (DiscueError, 500, "Internal Server Error"),
    ],
)
def test_reason_phrases_do_not_depend_on_the_python_version(kind: type[DiscueError], status: int, title: str) -> None:
    assert (kind().status, reason_phrase(status)) == (status, title)


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("uri_too_long", "URI Too Long"),
        ("invalid_value", "Unprocessable Entity"),
        ("headers_too_large", "Request Header Fields Too Large"),
    ],
)
def test_error_has_the_reason_phrase_of_its_code(code: str, title: str) -> None:
    assert reason_phrase(DiscueError(code=code).status) == title

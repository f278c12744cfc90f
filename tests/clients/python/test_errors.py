"""Errors of the client: classes, what they carry, and the line that a person reads."""

import json
import pickle

import pytest

import discue_client
from discue_client import APIError, FieldError, errors
from discue_client.errors import error_of

BODY = (
    b'{"title":"Unprocessable Entity","status":422,"code":"alias_taken","detail":"The alias is taken.\\nUse another.",'
    b'"errors":[{"pointer":"/alias","detail":"taken"}],"request_id":"r-1"}'
)


def refused(status: int, body: bytes, **headers: str) -> Exception:
    return error_of(status, headers, body, request="POST /queues", retry_after=None)


def test_error_carries_code_pointers_and_request_id_and_prints_as_one_line() -> None:
    error = refused(422, BODY)

    assert isinstance(error, discue_client.ValidationFailed)
    assert (error.status, error.code, error.request_id) == (422, "alias_taken", "r-1")
    assert error.errors == (FieldError("/alias", "taken"),)
    assert error.pointers == ("/alias",)
    assert str(error) == (
        "POST /queues: 422 alias_taken: The alias is taken. Use another. (/alias: taken) [request r-1]"
    )


@pytest.mark.parametrize(
    ("detail", "pointers", "shown"),
    [
        ("The value at /a is missing.", ["/a"], "The value at /a is missing."),
        ("The query parameter limit is missing.", ["?limit"], "The query parameter limit is missing."),
        ("The value at /a is missing.", ["/a", "/b"], "The value at /a is missing. (/b: is missing)"),
        ("Two are missing.", ["/a", "/b"], "Two are missing. (/a: is missing; /b: is missing)"),
    ],
)
def test_error_lists_the_values_that_its_detail_does_not_name(detail: str, pointers: list[str], shown: str) -> None:
    faults = [{"pointer": pointer, "detail": "is missing"} for pointer in pointers]
    error = refused(
        422, json.dumps({"status": 422, "detail": detail, "code": "missing_field", "errors": faults}).encode()
    )

    assert str(error) == f"POST /queues: 422 missing_field: {shown}"


def test_error_survives_pickling() -> None:
    error = refused(422, BODY)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert type(copy) is type(error)
    assert (str(copy), copy.errors) == (str(error), error.errors)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (402, "QuotaExceeded"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (409, "Conflict"),
        (410, "Gone"),
        (412, "PreconditionFailed"),
        (413, "TooLarge"),
        (418, "APIError"),
        (422, "ValidationFailed"),
        (429, "RateLimited"),
        (500, "ServerError"),
        (503, "Unavailable"),
    ],
)
def test_each_status_has_its_class(status: int, kind: str) -> None:
    error = refused(status, b'{"title":"x","status":%d}' % status)

    assert type(error) is getattr(discue_client, kind)
    assert isinstance(error, APIError)


@pytest.mark.parametrize(
    "body", [b"", b"<html>502</html>", b'"x"', b"[]", b"{", b'{"status":200}', b"\xff\xfe", b'{"status":"502"}']
)
def test_body_that_is_no_problem_is_not_taken_for_an_error_of_the_service(body: bytes) -> None:
    error = refused(502, body)

    assert type(error) is discue_client.UnexpectedResponse
    assert error.status == 502
    assert str(error).startswith("POST /queues: 502 from something other than discue: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "fields", ['"detail":7,"errors":{"a":1}', '"detail":null,"errors":[1,{"pointer":2}]', '"code":[],"request_id":{}']
)
def test_error_with_fields_of_wrong_types_is_still_readable(fields: str) -> None:
    error = refused(404, f'{{"status":404,"title":"Not Found",{fields}}}'.encode())

    assert str(error).startswith("POST /queues: 404: Not Found")


def test_long_and_unprintable_texts_are_cut_to_one_line() -> None:
    line = str(APIError(status=400, request="GET /", detail="a\r\n\x1b[31m" + "b" * 5_000, request_id="r"))

    assert line.isprintable()
    assert len(line) < 600
    assert line.endswith("… [request r]")


def test_every_error_is_exported_and_derives_from_the_base() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]

    assert len(classes) > 15
    assert [each for each in classes if getattr(discue_client, each.__name__) is not each] == []
    assert [each for each in classes if not issubclass(each, discue_client.DiscueError)] == []

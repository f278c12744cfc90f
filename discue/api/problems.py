"""The schema of errors: the fields of the document that `discue/http/problems.py` returns."""

from typing import Annotated

import msgspec

from discue.api.structs import ERROR_CODE, doc


class ErrorView(msgspec.Struct, frozen=True):
    """A value of a request that is wrong."""

    pointer: Annotated[str, doc("A JSON pointer (RFC 6901) into the body, or `?` and a parameter's name.", "/alias")]
    detail: Annotated[str, doc("The rule that the value breaks.", "is taken")]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every response with an error."""

    type: Annotated[str, doc("A page about this code.", "https://discue.example.com/docs/errors/not_found")]
    code: Annotated[str, doc("The exact reason, for programs.", "not_found", pattern=ERROR_CODE)]
    title: Annotated[str, doc("The status in words.", "Not Found")]
    status: Annotated[int, doc("The status of the response.", 404, minimum=400, maximum=599)]
    request_id: Annotated[
        str, doc("The id of the request, as in `X-Request-Id`.", "5a1f0c9e-1", pattern="^[A-Za-z0-9._-]{1,128}$")
    ]
    detail: Annotated[str, doc("The error, and what to do.", 'Queue "orders" not found.')] = ""
    errors: Annotated[tuple[ErrorView, ...], doc("The values that are wrong.", [])] = ()

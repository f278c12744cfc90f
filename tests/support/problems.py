"""Checks of refusing responses for the API's tests."""

from typing import Any

import httpx


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body, which has the shape of every problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["request_id"] == answer.headers["x-request-id"]
    assert set(found) <= {"type", "code", "title", "status", "detail", "errors", "request_id"}
    assert found["type"].endswith("/docs/errors/" + found["code"])
    return found


def pointers(found: dict[str, Any]) -> list[str]:
    return [place["pointer"] for place in found.get("errors", [])]

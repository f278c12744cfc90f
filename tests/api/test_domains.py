"""`/domains`, and organizations that want their listeners on them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.authority import server_context
from tests.support.scripted_server import CLOSE, HANG, READ_HEAD, ScriptedServer, Step
from tests.support.served_api import Cast


@contextmanager
def _site(cast: Cast) -> Iterator[ScriptedServer]:
    """A server on localhost, over TLS, that has no file yet."""
    server = ScriptedServer([(HANG,)], server_context("localhost"), host="localhost")
    cast.service.run(server.__aenter__())
    try:
        yield server
    finally:
        cast.service.run(server.__aexit__(None, None, None))


def _file(content: str) -> Sequence[Step]:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
    return READ_HEAD, head.encode() + content.encode(), CLOSE


def _made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()["domain"]
    return shown


def test_verification_on_demand_returns_its_result(cast: Cast) -> None:
    with _site(cast) as site:
        made = _made(cast.alice.post("/domains", json={"hostname": "localhost", "port": site.port}))
        content = made["challenge"]["https"]["file_content"]
        site.scripts = [_file(content)]
        answer = cast.alice.put(f"/v1/domains/{made['id']}/verification")
        found = _made(answer)
        assert found["verification"]["verified"] is True
        assert found["verification"]["verified_at"] == found["verification"]["checked_at"] >= made["created_at"]
        assert found["challenge"] == made["challenge"]
        assert answer.json()["_links"]["self"]["href"] == f"{cast.service.url}/v1/domains/{made['id']}"
        assert _made(cast.alice.get(f"/domains/{made['id']}")) == found
        assert _made(cast.alice.put(f"/domains/{made['id']}/verification", json={"anything": 1})) == found


@pytest.mark.parametrize(
    ("content", "error"), [("something else", "content differs"), ("x" * 100_000, "content differs")]
)
def test_a_file_that_is_not_right_verifies_nothing_and_is_not_shown(cast: Cast, content: str, error: str) -> None:
    with _site(cast) as site:
        site.scripts = [_file(content)]
        made = cast.domain(port=site.port)
        answer = cast.alice.put(f"/domains/{made}/verification")
        assert _made(answer)["verification"]["last_error"] == error
        assert content not in answer.text


def test_check_by_the_service_does_not_break_if_match(cast: Cast) -> None:
    path = f"/domains/{cast.domain()}"
    etag = cast.alice.get(path).headers["etag"]
    assert _made(cast.alice.put(f"{path}/verification"))["verification"]["checked_at"] > 0
    assert cast.alice.put(path, json={"alias": "renamed"}, headers={"if-match": etag}).status_code == 200
    assert cast.alice.delete(path, headers={"if-match": etag}).status_code == 412

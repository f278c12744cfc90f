"""Somebody with a key who asks a running service, each time another of its workers."""

import random
from collections.abc import Callable
from functools import cache
from itertools import cycle
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.contract.reference import DOCUMENT
from tests.contract.serving import Installation
from tests.support.described_responses import Description, Seen

PATIENCE_SECONDS = 60.0

_APART_SECONDS = 0.02

_ids = random.Random()  # noqa: S311 - names for things, and addresses


def fresh(prefix: str = "thing") -> str:
    """A name that nothing has yet."""
    return f"{prefix}-{_ids.randrange(36**8):08x}"


@cache
def _described() -> Description:
    return Description(DOCUMENT)


class Caller:
    """Requests with one key, or without one, whose responses must be as the OpenAPI document describes them.

    Paths have no version unless the test writes it.
    """

    def __init__(self, installation: Installation, client: httpx.Client, key: str | None) -> None:
        self.installation = installation
        self.key = key
        self._client = client
        self._urls = cycle(installation.urls)

    def with_key(self, key: str | None) -> "Caller":
        """Somebody else, from the same address."""
        return Caller(self.installation, self._client, key)

    def ask(self, method: str, path: str, content: Any = None, **options: Any) -> httpx.Response:
        """Send a request and return the response of any status. Content other than `bytes` is sent as JSON."""
        given = options.pop("headers", {})
        headers = list(given.items() if isinstance(given, dict) else given)
        if self.key is not None:
            headers.append(("X-API-KEY", self.key))
        if content is not None:
            options["content" if isinstance(content, bytes) else "json"] = content
        url = path if path.startswith("http") else next(self._urls) + path
        answer = self._client.request(method, url, headers=headers, **options)
        seen = Seen(method, urlsplit(url).path, answer.status_code, answer.headers, answer.content)
        faults = _described().faults(seen)
        assert not faults, f"{seen} is not as the OpenAPI document says: {faults}\n{answer.text[:2_000]}"
        return answer

    def get(self, path: str) -> dict[str, Any]:
        """The body of a 200."""
        return body(self.ask("GET", path))

    def shown(self, path: str) -> dict[str, Any]:
        """The one resource at an address."""
        return resource(self.ask("GET", path))

    def create(self, path: str, **fields: Any) -> dict[str, Any]:
        return resource(self.ask("POST", path, fields))

    def change(self, path: str, **fields: Any) -> dict[str, Any]:
        return resource(self.ask("PUT", path, fields))

    def delete(self, path: str) -> dict[str, Any]:
        return body(self.ask("DELETE", path))

    def refused(self, status: int, method: str, path: str, content: Any = None, **options: Any) -> dict[str, Any]:
        """The problem that a request is answered with."""
        return problem(self.ask(method, path, content, **options), status)

    def until(
        self, path: str, is_so: Callable[[dict[str, Any]], bool], within_seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """The resource at an address once something is so of it."""
        deadline = monotonic() + within_seconds
        while not is_so(shown := self.shown(path)):
            assert monotonic() < deadline, shown
            sleep(_APART_SECONDS)
        return shown

    def until_status(self, status: int, path: str) -> httpx.Response:
        """Repeat a GET until every worker responds with this status twice in a row. Returns the last response."""
        deadline, in_a_row = monotonic() + PATIENCE_SECONDS, 0
        while True:
            answer = self.ask("GET", path)
            in_a_row = in_a_row + 1 if answer.status_code == status else 0
            if in_a_row >= 2 * len(self.installation.urls):
                return answer
            assert monotonic() < deadline, answer.text
            sleep(_APART_SECONDS)


def body(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def resource(answer: httpx.Response) -> dict[str, Any]:
    """Return the resource in a response: the first member besides `_links`."""
    content = body(answer)
    found: dict[str, Any] = next(value for name, value in content.items() if name != "_links")
    return found


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    content: dict[str, Any] = answer.json()
    assert content["status"] == status
    return content


def pointers(content: dict[str, Any]) -> list[str]:
    """The places that a problem names."""
    return [error["pointer"] for error in content.get("errors", [])]


def client_at(address: str | None = None, *, http2: bool = False) -> httpx.Client:
    """A client that keeps its connections, from an address of loopback if one is given."""
    transport = httpx.HTTPTransport(verify=False, local_address=address, http1=not http2, http2=http2)
    return httpx.Client(transport=transport, trust_env=False, timeout=30.0, headers={"Accept": "*/*"})


def some_address() -> str:
    """An address of loopback that nobody else calls from."""
    return f"127.{_ids.randint(1, 254)}.{_ids.randint(1, 254)}.{_ids.randint(1, 254)}"

"""Authentication and lockout over HTTP, behind a trusted proxy at 127.0.0.1."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from discue.domain.lockout import FAILURES, LockoutSubject
from tests.support.served_api import Cast, Service, served

UNKNOWN_KEY = "dsk_" + "0" * 53


def asked(client: httpx.Client, path: str = "/queues", **headers: str) -> httpx.Response:
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def fail(client: httpx.Client) -> None:
    for _ in range(FAILURES):
        assert asked(client, x_api_key=UNKNOWN_KEY).status_code == 401


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/v9/queues", 404), ("/" + "x" * 9_000, 414)])
def test_a_request_that_leads_nowhere_counts_and_is_answered_all_the_same(cast: Cast, path: str, status: int) -> None:
    assert asked(cast.alice, path).status_code == status
    for _ in range(FAILURES):
        assert asked(cast.alice, path, x_api_key=UNKNOWN_KEY).status_code == status
    assert asked(cast.alice, path, x_api_key=UNKNOWN_KEY).status_code == 403
    assert asked(cast.alice, x_api_key=UNKNOWN_KEY).status_code == 403
    assert asked(cast.alice, path).status_code == status


def test_a_method_that_is_not_known_counts_too(cast: Cast) -> None:
    for _ in range(FAILURES):
        assert cast.alice.patch("/queues", headers={"x-api-key": UNKNOWN_KEY}).status_code == 405
    assert cast.alice.patch("/queues", headers={"x-api-key": UNKNOWN_KEY}).status_code == 403
    assert cast.alice.patch("/queues").status_code == 405


def test_locked_out_client_reaches_routes_without_a_key(cast: Cast) -> None:
    fail(cast.alice)
    for path in ("/", "/health/live", "/health/ready"):
        assert asked(cast.alice, path, x_api_key=UNKNOWN_KEY).status_code == 200


@pytest.fixture
def unproxied(tmp_path: Path) -> Iterator[Service]:
    with served(tmp_path, trusted_proxies=()) as running:
        yield running


def test_the_server_says_where_the_other_end_is(unproxied: Service) -> None:
    """Client addresses are taken from a socket's address with its port."""
    fail(unproxied.client(None))
    locks = unproxied.installation.cache.locks
    assert locks.remaining_ms(LockoutSubject.unknown_key("127.0.0.1"), unproxied.installation.clock.now()) > 0

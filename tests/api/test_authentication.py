"""Authentication and lockout over HTTP, behind a trusted proxy at 127.0.0.1."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from discue.domain.lockout import FAILURES
from discue.domain.scopes import Scope
from tests.support.served_api import Cast, Service, served

UNKNOWN_KEY = "dsk_" + "0" * 53
READER = {"queues": Scope("read")}


def wrong(client: httpx.Client) -> str:
    """Return the client's key with another secret."""
    key = client.headers["x-api-key"]
    return key[:-1] + ("0" if key[-1] != "0" else "1")


def asked(client: httpx.Client, path: str = "/queues", **headers: str) -> httpx.Response:
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def fail(client: httpx.Client, key: str = UNKNOWN_KEY, times: int = FAILURES, path: str = "/queues") -> None:
    for _ in range(times):
        assert asked(client, path, x_api_key=key).status_code in {401, 404}


def test_after_five_failures_an_address_is_403_with_a_valid_key_too(cast: Cast) -> None:
    fail(cast.alice)
    answer = asked(cast.alice)
    assert answer.status_code == 403
    assert 58 <= int(answer.headers["retry-after"]) <= 60
    assert answer.json()["title"] == "Forbidden"
    assert "www-authenticate" not in answer.headers
    assert asked(cast.charlie).status_code == 200


def test_key_works_from_another_address_than_the_locked_one(cast: Cast, service: Service) -> None:
    fail(cast.alice)
    elsewhere = service.client(cast.alice.headers["x-api-key"])
    assert asked(elsewhere).status_code == 200


def test_a_wrong_secret_locks_the_key_and_not_the_address(cast: Cast, service: Service) -> None:
    bob = cast.bob(READER)
    fail(cast.charlie, wrong(bob))
    assert asked(bob).status_code == 403
    assert asked(service.client(bob.headers["x-api-key"])).status_code == 403
    assert asked(cast.charlie).status_code == 200
    assert asked(cast.alice).status_code == 200


def test_no_key_at_all_is_not_counted(cast: Cast) -> None:
    for _ in range(2 * FAILURES):
        assert asked(cast.nobody).status_code == 401
        assert asked(cast.nobody, x_api_key="").status_code == 401
    assert asked(cast.nobody, x_api_key=cast.alice.headers["x-api-key"]).status_code == 200


def test_a_disabled_key_is_not_counted(cast: Cast) -> None:
    bob = cast.bob(READER)
    public_id = bob.headers["x-api-key"][4:25]
    assert cast.alice.put(f"/api_keys/{public_id}", json={"status": "disabled"}).status_code == 200
    for _ in range(2 * FAILURES):
        assert asked(bob).status_code == 401
    assert cast.alice.put(f"/api_keys/{public_id}", json={"status": "enabled"}).status_code == 200
    assert asked(bob).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/v9/queues", 404), ("/" + "x" * 9_000, 414)])
def test_a_request_that_leads_nowhere_counts_and_is_answered_all_the_same(cast: Cast, path: str, status: int) -> None:
    assert asked(cast.alice, path).status_code == status
    for _ in range(FAILURES):
        assert asked(cast.alice, path, x_api_key=UNKNOWN_KEY).status_code == status
    assert asked(cast.alice, path).status_code == 403
    assert asked(cast.alice).status_code == 403


def test_a_method_that_is_not_known_counts_too(cast: Cast) -> None:
    for _ in range(FAILURES):
        assert cast.alice.patch("/queues", headers={"x-api-key": UNKNOWN_KEY}).status_code == 405
    assert cast.alice.patch("/queues").status_code == 403


def test_locked_out_client_reaches_routes_without_a_key(cast: Cast) -> None:
    fail(cast.alice)
    for path in ("/", "/health/live", "/health/ready"):
        assert asked(cast.alice, path).status_code == 200


def test_responses_to_all_kinds_of_wrong_keys_are_equal(cast: Cast, service: Service) -> None:
    answers = [
        asked(service.client(None), x_api_key=key, x_request_id="same")
        for key in ("malformed", UNKNOWN_KEY, wrong(cast.alice))
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({frozenset(answer.headers) for answer in answers}) == 1


def test_an_address_may_be_said_in_forwarded(cast: Cast, service: Service) -> None:
    def client(node: str) -> httpx.Client:
        told = service.client(cast.alice.headers["x-api-key"])
        del told.headers["x-forwarded-for"]
        told.headers["forwarded"] = f'for="{node}";proto=https'
        return told

    network = "2001:db8:77"
    fail(client(f"[{network}::1]:4711"))
    assert asked(client(f"[{network}::2]")).status_code == 403
    assert asked(client(f"[{network}:1::1]")).status_code == 200


def test_a_lock_is_an_event_of_the_keys_organization(cast: Cast, service: Service) -> None:
    bob = cast.bob(READER)
    public_id = bob.headers["x-api-key"][4:25]
    fail(cast.charlie, wrong(bob))
    sql = "SELECT kind, name FROM event WHERE ref = $1 AND kind = 'lockout'"
    rows = service.run(service.installation.store.read(lambda tx: tx.rows(sql, public_id)))
    assert [tuple(row) for row in rows] == [("lockout", public_id)]


@pytest.fixture
def unproxied(tmp_path: Path) -> Iterator[Service]:
    with served(tmp_path, trusted_proxies=()) as running:
        yield running


def test_forwarding_headers_of_an_untrusted_peer_are_ignored(unproxied: Service) -> None:
    for number in range(FAILURES):
        told = f"203.0.113.{number}"
        answer = asked(unproxied.client(None), x_api_key=UNKNOWN_KEY, x_forwarded_for=told, forwarded=f"for={told}")
        assert answer.status_code == 401
    for told in ("203.0.113.200", "127.0.0.1", "garbage"):
        client = unproxied.client(unproxied.operator)
        assert asked(client, x_forwarded_for=told, forwarded=f"for={told}").status_code == 403


def test_the_server_says_where_the_other_end_is(unproxied: Service) -> None:
    """Client addresses are taken from a socket's address with its port."""
    fail(unproxied.client(None))
    locks = unproxied.installation.cache.locks
    assert locks.remaining_ms("127.0.0.1", unproxied.installation.clock.now()) > 0

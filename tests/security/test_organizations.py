"""Tenants do not escape their limits, quotas and suspension by creating organizations."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.cli.commands import run, serving
from tests.support.databases import new_database

_KEY = "dsk_" + "c" * 60
_ALLOWED = 2


class _Caller(NamedTuple):
    url: str
    key: str

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=20) as client:
            return client.request(method, self.url + path, headers={"x-api-key": self.key}, json=body)

    def done(self, method: str, path: str, body: object = None) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def found(self, **fields: object) -> tuple[str, "_Caller"]:
        """Create an organization; returns its path, and its caller."""
        made = self.done("POST", "/organizations", fields)
        return f"/organizations/{made['organization']['id']}", _Caller(self.url, made["api_key"]["key"])


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(request, request.param, tmp_path_factory.mktemp("organizations")) as address:
        yield address


@pytest.fixture(scope="module")
def operator(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Caller]:
    """The operator of a service that lets tenants create organizations."""
    options = ("--database", database, "--bootstrap-key", _KEY, "--tenant-organizations", str(_ALLOWED))
    with serving(tmp_path_factory.mktemp("serving"), *options) as server:
        yield _Caller(server.url.rstrip("/"), _KEY)


def test_only_the_operator_creates_organizations_by_default(tmp_path: Path) -> None:
    with serving(tmp_path, "--bootstrap-key", _KEY) as server:
        _, tenant = _Caller(server.url.rstrip("/"), _KEY).found(alias="com.example.tenant")
        for path in ("/organizations", "/api_clients"):
            for method in ("POST", "PUT"):
                answer = tenant.ask(method, path, {"alias": "com.example.tenant.more"})
                assert (answer.status_code, "tenant_organizations" in answer.json()["detail"]) == (403, True)
        assert len(tenant.done("GET", "/organizations")["organizations"]) == 1


def test_aliases_of_created_organizations_stay_below_their_founders(operator: _Caller) -> None:
    path, tenant = operator.found(alias="com.below.one")
    for alias in ("com.victim", "com.below", "com.below.one2", "com.below.oneself/x"):
        assert tenant.ask("POST", "/organizations", {"alias": alias}).status_code == 422
    child_path, child = tenant.found(alias="com.below.one.dev")
    _, other = tenant.found()
    assert other.done("GET", "/organizations")["organizations"][0]["alias"].startswith("com.below.one.")
    assert child.ask("PUT", child_path, {"alias": "com.victim"}).status_code == 422
    assert child.ask("PUT", child_path, {"alias": "com.below.one/stage"}).status_code == 200
    assert tenant.ask("PUT", path, {"alias": "com.elsewhere"}).status_code == 409
    # As many as the operator allows, and none below those.
    assert tenant.ask("POST", "/organizations", {}).status_code == 402
    assert child.ask("POST", "/organizations", {}).status_code == 403
    assert operator.ask("DELETE", path).status_code == 409


def test_quotas_of_a_tenant_hold_for_organizations_of_its_own_too(operator: _Caller) -> None:
    quotas = {"queues": 3, "messages_a_day": 4}
    path, tenant = operator.found(alias="com.quotas.one", quotas=quotas)
    child_path, child = tenant.found()
    queues = [f"/queues/{caller.done('POST', '/queues', {})['queue']['id']}" for caller in (tenant, child, child)]
    for caller in (tenant, child):
        assert caller.ask("POST", "/queues", {}).status_code == 402
        assert caller.ask("PUT", path if caller is tenant else child_path, {"quotas": {"queues": 9}}).status_code == 403
    for caller, queue in ((tenant, queues[0]), (child, queues[1])) * 2:
        caller.done("POST", f"{queue}/messages", {"data": "x"})
    for caller, queue in ((tenant, queues[0]), (child, queues[1])):
        assert caller.ask("POST", f"{queue}/messages", {"data": "x"}).status_code == 402
    # An organization that is deleted and created again does not renew them.
    child.done("DELETE", child_path)
    _, again = tenant.found()
    queue = again.done("POST", "/queues", {})["queue"]["id"]
    assert again.ask("POST", f"/queues/{queue}/messages", {"data": "x"}).status_code == 402
    # A quota that the operator raises, counts for all.
    operator.done("PUT", path, {"quotas": {"messages_a_day": 5}})
    again.done("POST", f"/queues/{queue}/messages", {"data": "x"})
    assert tenant.ask("POST", f"{queues[0]}/messages", {"data": "x"}).status_code == 402


def test_limits_of_a_tenant_apply_to_organizations_of_its_own(operator: _Caller) -> None:
    path, tenant = operator.found(alias="com.limits.one", rate_limit=1_000)
    child_path, child = tenant.found()
    shown = child.done("GET", child_path)["organization"]
    assert shown["rate_limit"] == 1_000
    operator.done("PUT", path, {"rate_limit": 20})
    assert child.ask("GET", child_path).headers["x-ratelimit-limit"] == "20"
    assert operator.ask("PUT", child_path, {"rate_limit": 0}).status_code == 409


def test_suspension_of_a_tenant_applies_to_organizations_of_its_own(
    operator: _Caller, database: str, tmp_path: Path
) -> None:
    _, tenant = operator.found(alias="com.suspended.one")
    child_path, child = tenant.found(alias="com.suspended.one.dev")
    states: list[tuple[int, int]] = []
    parent, own = "com.suspended.one", "com.suspended.one.dev"
    for verb, alias, expected in (("suspend", parent, 423), ("resume", own, 423), ("resume", parent, 200)):
        ended = run(tmp_path, "organizations", verb, alias, "--database", database)
        # Other processes learn of it within a second.
        ends_at = time.monotonic() + 20
        while (state := child.ask("GET", child_path).status_code) != expected:
            assert time.monotonic() < ends_at
        states.append((ended.returncode, state))
    assert states == [(0, 423), (1, 423), (0, 200)]

"""Rate limits and quotas on the wire."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from discue.api.resources.service import HealthResponse
from discue.api.route import Call, Route
from discue.domain.rate import UNLIMITED
from discue.domain.reservations import FEW_ROWS
from discue.domain.scopes import Scope
from tests.support.served_api import Cast, Service, served

RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def rate(answer: httpx.Response) -> tuple[int, int, int]:
    limit, remaining, reset = (int(answer.headers[name]) for name in RATE_HEADERS)
    return limit, remaining, reset


def change(cast: Cast, **fields: Any) -> httpx.Response:
    """Set limits of alice's organization, as the operator."""
    operator = cast.service.client(cast.service.operator)
    return operator.put(f"/organizations/{cast.organization_id}", json=fields)


def within_a_minute(seconds: int = 10) -> None:
    """Wait for the next minute if this one is nearly over: what follows must not be cut in two."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.01)


def test_a_key_is_counted_by_itself(cast: Cast) -> None:
    within_a_minute()
    assert [rate(cast.alice.get("/queues"))[1] for _ in range(3)] == [599_999, 599_998, 599_997]
    assert rate(cast.charlie.get("/queues"))[1] == 599_999
    assert rate(cast.alice.get("/nothing"))[1] == 599_996
    assert rate(cast.bob({"queues": Scope("read")}).get("/queues"))[1] == 599_999


def test_beyond_the_limit_it_is_429_with_the_time_to_wait(cast: Cast) -> None:
    within_a_minute()
    change(cast, rate_limit=3)
    asked_at = time.time()
    answers = [cast.alice.get("/queues") for _ in range(5)]
    answered_at = time.time()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [rate(answer)[1] for answer in answers] == [2, 1, 0, 0, 0]
    refused = answers[-1]
    assert refused.json()["title"] == "Too Many Requests"
    wait_seconds, resets_at = int(refused.headers["retry-after"]), rate(refused)[2]
    assert resets_at - answered_at <= wait_seconds <= resets_at - asked_at + 1
    assert cast.alice.get("/nothing").status_code == 429
    assert cast.alice.get("/health/live").status_code == 200


def test_the_operator_changes_the_limit_and_it_holds_at_once(cast: Cast) -> None:
    within_a_minute()
    assert rate(cast.alice.get("/queues"))[0] == 600_000
    change(cast, rate_limit=4)
    assert rate(cast.alice.get("/queues"))[:2] == (4, 2)
    change(cast, rate_limit=0)
    assert rate(cast.alice.get("/queues"))[:2] == (UNLIMITED, UNLIMITED)
    change(cast, rate_limit=None)
    assert rate(cast.alice.get("/queues"))[0] == 600_000
    assert cast.alice.put(f"/organizations/{cast.organization_id}", json={"rate_limit": 9}).status_code == 403


def test_keys_of_an_organization_together_are_limited_to_four_times_as_much(cast: Cast) -> None:
    within_a_minute()
    change(cast, rate_limit=3)
    clients = [cast.bob({"queues": Scope("read")}) for _ in range(6)]
    answers = [client.get("/queues") for client in clients for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429] * 6
    assert [rate(answer)[1] for answer in answers] == [2, 1, 0] * 4 + [0] * 6
    assert answers[-1].json()["detail"].startswith("All keys of the organization together may make at most 12 requests")
    assert cast.charlie.get("/queues").status_code == 200


def test_the_operator_has_no_limit_unless_it_sets_one(cast: Cast) -> None:
    operator = cast.service.client(cast.service.operator)
    assert rate(operator.get("/queues"))[:2] == (UNLIMITED, UNLIMITED)


@pytest.fixture
def workers(service: Service, tmp_path: Path) -> Iterator[list[Service]]:
    """Two more on the same database."""
    database = service.installation.settings.database
    with served(tmp_path, database=database) as second, served(tmp_path, database=database) as third:
        yield [service, second, third]


@pytest.mark.parametrize("limit", [50, 300])
def test_workers_share_one_limit(cast: Cast, workers: list[Service], limit: int) -> None:
    within_a_minute(15)
    change(cast, rate_limit=limit)
    key = cast.service.key(cast.organization_alias, {"queues": Scope("read")})
    clients = [worker.client(key) for worker in workers]
    statuses = [clients[number % 3].get("/queues").status_code for number in range(limit + 30)]
    assert set(statuses) == {200, 429}
    assert 0.95 * limit <= statuses.count(200) <= limit


async def _fail(_call: Call) -> msgspec.Struct:
    raise RuntimeError


FAILING = Route(methods=("GET",), path="/failing", handler=_fail, response=HealthResponse, needs=None, reads=FEW_ROWS)


def test_an_address_has_a_limit_of_its_own_and_valid_keys_do_not_count_for_it(tmp_path: Path) -> None:
    within_a_minute()
    with served(tmp_path, (FAILING,), address_rate_limit=6) as service:
        nobody, operator, liar = (service.client(key) for key in (None, service.operator, "dsk_wrong"))
        for client in (nobody, operator, liar):
            client.headers["x-forwarded-for"] = "198.51.100.7"
        assert operator.get("/queues").status_code == 200
        failed = nobody.get("/failing")
        assert (failed.status_code, rate(failed)[:2]) == (500, (6, 5))
        statuses = [nobody.get("/queues").status_code for _ in range(4)]
        assert statuses == [401] * 4
        assert liar.get("/queues").status_code == 401
        refused = liar.get("/queues")
        assert (refused.status_code, rate(refused)[:2]) == (429, (6, 0))
        assert nobody.get("/nothing").status_code == 429
        assert nobody.get("/health/ready").status_code == 200
        assert operator.get("/queues").status_code == 200
        service.readiness.phase = "draining"
        drained = operator.get("/queues")
        assert (drained.status_code, rate(drained)[:2]) == (503, (6, 0))


def test_attempts_during_a_lockout_count_against_the_address_but_not_its_valid_keys(tmp_path: Path) -> None:
    within_a_minute()
    with served(tmp_path, address_rate_limit=8) as service:
        guesser, operator = service.client("dsk_" + "0" * 53), service.client(service.operator)
        for client in (guesser, operator):
            client.headers["x-forwarded-for"] = "198.51.100.7"
        answers = [guesser.get("/queues") for _ in range(10)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [403] * 3 + [429] * 2
        assert answers[-1].json()["code"] == "rate_limited"
        # The worker has not seen this key before.
        assert operator.get("/queues").status_code == 200


def test_health_checks_have_a_separate_limit_per_address(tmp_path: Path) -> None:
    within_a_minute()
    with served(tmp_path, address_rate_limit=6) as service:
        stranger, proxy = service.client(None), service.client(None)
        del proxy.headers["x-forwarded-for"]
        paths = ("/health/live", "/v1/health/ready")
        answers = [stranger.get(paths[number % 2]) for number in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
        assert [rate(answer)[:2] for answer in answers] == [(6, left) for left in (5, 4, 3, 2, 1, 0, 0, 0)]
        assert "address_rate_limit" in answers[-1].json()["detail"]
        assert int(answers[-1].headers["retry-after"]) > 0
        # Neither other requests of the address, nor other addresses.
        assert stranger.get("/queues").status_code == 401
        assert service.client(None).get("/health/live").status_code == 200
        assert proxy.get("/health/live").status_code == 200
        # A draining worker keeps the limit.
        service.readiness.phase = "draining"
        assert stranger.get("/health/ready").status_code == 429
        assert proxy.get("/health/ready").status_code == 503


def test_clients_of_an_untrusted_proxy_do_not_use_up_its_health_checks(tmp_path: Path) -> None:
    within_a_minute()
    with served(tmp_path, address_rate_limit=6, trusted_proxies=()) as service:
        stranger, proxy = service.client(None), service.client(None)
        del proxy.headers["x-forwarded-for"]
        statuses = [stranger.get("/health/ready").status_code for _ in range(8)]
        assert statuses == [200] * 6 + [429] * 2
        assert proxy.get("/health/ready").status_code == 200
        warnings = [fields["client"] for event, fields in service.log.lines if event == "proxy_not_trusted"]
        assert warnings == ["127.0.0.1"]


def test_repeated_publish_succeeds_when_the_quota_is_used_up(cast: Cast) -> None:
    queue = cast.queue()
    change(cast, quotas={"messages_a_day": 1})
    once = {"idempotency-key": "first"}
    first = cast.alice.post(f"/queues/{queue}/messages", json={"data": "1"}, headers=once)
    again = cast.alice.post(f"/queues/{queue}/messages", json={"data": "1"}, headers=once)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert cast.alice.post(f"/queues/{queue}/messages", json={"data": "1"}).status_code == 402
    change(cast, quotas=None)
    assert cast.alice.post(f"/queues/{queue}/messages", json={"data": "1"}).status_code == 200

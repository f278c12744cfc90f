"""Processes that take a minute. They run last of all tests of their service, so that the others fill the minute."""

from time import monotonic, sleep

import pytest

from tests.contract.begun import Begun
from tests.contract.reference import covers
from tests.support.receiver import Endpoint

_WITHIN_SECONDS = 120.0
_MINUTE_MS = 60_000


def _probe(begun: Begun, path: str, endpoint: Endpoint, times: int) -> None:
    """Change a listener until it was probed so often in all: each change is followed by a probe soon."""
    while (probes := endpoint.probes) < times:
        begun.owner.change(path, timeout=10 + probes)
        endpoint.until_probed(probes + 1)


@covers("listeners.md# Liveness")
def test_an_inactive_listener_gets_nothing_until_it_lives_again(begun: Begun) -> None:
    _probe(begun, begun.inactive, begun.lifeless, 3)
    found = begun.owner.until(begun.inactive, lambda shown: shown["liveness"]["state"] == "inactive")
    assert (found["liveness"]["last_failure_status"], found["liveness"]["success_count"]) == (503, 0)
    published = begun.owner.create(f"{begun.left_alone}/messages", data="x")
    waiting = begun.owner.until(begun.inactive, lambda shown: shown["messages"]["pending_count"] == 1)
    assert waiting["messages"]["acknowledged_count"] == 0
    assert waiting["status_reason"] == "It is inactive because its liveness probes fail: answered 503."
    [delivery] = begun.owner.shown(f"{begun.left_alone}/messages/{published['id']}")["deliveries"]
    assert delivery["waits_for"] == "The listener is inactive because its liveness probes fail: answered 503."
    assert waiting["status_changed_at"] > waiting["created_at"]
    assert begun.lifeless.received == []
    begun.lifeless.liveness_status = 200
    _probe(begun, begun.inactive, begun.lifeless, begun.lifeless.probes + 1)
    [received] = begun.lifeless.until(1)
    assert received.headers["webhook-id"] == published["id"]
    begun.owner.until(begun.inactive, lambda shown: shown["messages"]["acknowledged_count"] == 1)
    # Counts of messages and of probes are stored one after the other.
    begun.owner.until(begun.inactive, lambda shown: shown["liveness"]["success_count"] > 0)
    attempts = begun.owner.get(f"{begun.left_alone}/messages/{published['id']}/attempts")["attempts"]
    assert [attempt["status"] for attempt in attempts] == [200]


@covers("schedules.md# The resource")
def test_a_run_of_a_schedule_publishes_a_message(begun: Begun) -> None:
    [first, *_] = begun.every_minute.until(1, _WITHIN_SECONDS)
    instant = int(first.headers["discue-scheduled-at"])
    assert first.headers["discue-schedule"] == begun.minutely["id"]
    assert instant == begun.minutely["next_runs"][0]
    assert instant % _MINUTE_MS == 0
    assert first.content == b'{"tick":true}'
    published = [each["id"] for each in begun.owner.get(begun.of_schedule)["messages"]]
    assert first.headers["webhook-id"] in published


@covers("listeners.md# Liveness")
def test_a_listener_without_a_liveness_endpoint_gets_everything(begun: Begun) -> None:
    _probe(begun, begun.without_liveness, begun.post_only, 3)
    published = begun.owner.create(f"{begun.of_post_only}/messages", data="x")
    [received] = begun.post_only.until(1)
    assert received.headers["webhook-id"] == published["id"]
    # Counts alone are shown within a minute of the first probe, which followed soon after the creation.
    counted = lambda shown: shown["liveness"]["failure_count"]  # noqa: E731
    found = begun.owner.until(begun.without_liveness, counted, _WITHIN_SECONDS)
    assert (found["liveness"]["state"], found["status_reason"]) == ("unknown", "")
    assert found["liveness"]["last_failure_msg"] == "answered 405: not a liveness endpoint"


@covers("authentication.md# Lockout")
def test_lockout_that_follows_another_lasts_twice_as_long(begun: Begun) -> None:
    if begun.guesser is None:
        pytest.skip("Only on loopback a test has an address of its own.")
    deadline = monotonic() + _WITHIN_SECONDS
    while (answer := begun.guesser.ask("GET", "/queues")).status_code == 403:
        assert int(answer.headers["retry-after"]) <= 60
        assert monotonic() < deadline
        sleep(int(answer.headers["retry-after"]))
    for _ in range(4):
        begun.guesser.refused(401, "GET", "/queues")
    assert 60 < int(begun.guesser.until_status(403, "/queues").headers["retry-after"]) <= 120

"""Applications of web frameworks as listeners, with the adapters of the client."""

from contextlib import nullcontext
from typing import Any

import pytest
from django.test.utils import override_settings

from discue.testing import Kit
from discue_client import Retry, Webhook
from tests.clients.python.frameworks import ENDPOINTS

SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize("framework", ENDPOINTS)
def test_handler_gets_verified_events_until_it_accepts_one(framework: str, discue: Kit) -> None:
    attempts: list[int] = []

    def handle(event: Any) -> None:
        assert event.data == {"order": 17}
        attempts.append(event.attempt)
        if event.attempt == 1:
            raise Retry(after=60)

    call = ENDPOINTS[framework](Webhook(SECRET), Any, handle)
    path = call.keywords.get("path", "/hook")  # type: ignore[attr-defined]
    orders = discue.deliver_to(call.args[0], path, queue="orders", secret=SECRET)  # type: ignore[attr-defined]
    discue.publish("orders", {"order": 17})

    # As the test runners of Django do.
    with override_settings(ALLOWED_HOSTS=["testserver"]) if "django" in framework else nullcontext():
        discue.clock.advance("50s")
        before = list(attempts)
        discue.clock.advance("10s")

    assert (before, attempts) == ([1], [1, 2])
    orders.assert_acknowledged(1)
    assert [attempt.status for attempt in orders.attempts] == [503, 204]

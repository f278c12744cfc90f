"""Messages that became too old while an endpoint was disabled are missed only if they were for it."""

from pathlib import Path

import pytest

from tests.dashboard.portal.conftest import HOSTS, made
from tests.support.dashboard_shop import BEHAVIOURS, ShopSender
from tests.support.dashboards import dashboard_service
from tests.support.portals import opened

_DEADLINE_SECONDS = 60


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
def test_customer_of_a_shared_queue_misses_and_receives_no_message_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ordered: bool
) -> None:
    monkeypatch.setattr(ShopSender, "behaviours", BEHAVIOURS)
    with (
        dashboard_service(tmp_path, ShopSender, delivery_deadline_seconds=_DEADLINE_SECONDS) as service,
        service.api() as api,
    ):
        shared = made(api, "/queues", alias="shared", ordered=ordered)
        listener = {"notify_url": f"{HOSTS}/acme", "customer": "acme", "filter": {"data": {"shop": "acme"}}}
        place = f"/queues/{shared}/listeners/{made(api, f'/queues/{shared}/listeners', **listener)}"
        browser = opened(service, "acme", shared)
        assert browser.act(f"{place}/disable").status_code == 303
        others = [
            made(api, f"/queues/{shared}/messages", data={"shop": "globex", "n": number}, key="k")
            for number in range(3)
        ]
        own = made(api, f"/queues/{shared}/messages", data={"shop": "acme"}, key="k")
        service.settle()
        service.advance(20 * _DEADLINE_SECONDS)
        service.settle()

        missed = browser.get(f"{place}/missed").text
        assert (own in missed, [each for each in others if each in missed]) == (True, [])
        assert browser.act(f"{place}/enable").status_code == 303
        assert browser.act(f"{place}/redeliver").status_code == 303
        service.settle()
        service.advance(30)
        service.settle()

        attempts = api.get(f"{place}/attempts?per_page=100").json()["attempts"]
        assert {each["message_id"] for each in attempts} == {own}
        assert {browser.get(f"/queues/{shared}/messages/{each}").status_code for each in others} == {404}

"""The stream of events that pages listen to."""

import pytest

from discue.control.usage import activity_mark
from discue.dashboard import live
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService

pytestmark = pytest.mark.usefixtures("_short_rounds")


@pytest.fixture
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROUND_SECONDS", 0.02)


def test_change_in_the_organization_is_an_event(service: DashboardService, shop: Shop) -> None:
    with service.browser().stream("GET", f"{service.url}/dashboard/live") as events:
        assert events.headers["content-type"] == "text/event-stream"
        lines = events.iter_lines()
        assert "retry: 5000" in lines
        published = service.api().post(f"/queues/{shop.queue}/messages", json={"data": {"order": 9_200, "total": 1}})
        assert published.status_code == 200
        assert "event: changed" in lines


def test_mark_of_another_organization_does_not_change(service: DashboardService, shop: Shop) -> None:
    own, other = service.principal.organization, 4_711
    before = [service.run(activity_mark(service.control, each)) for each in (own, other)]
    service.api().post(f"/queues/{shop.queue}/messages", json={"data": {"order": 9_201, "total": 1}})
    after = [service.run(activity_mark(service.control, each)) for each in (own, other)]

    assert before[0] != after[0]
    assert before[1][1] == after[1][1] == 0


def test_stream_ends_with_its_session(service: DashboardService) -> None:
    browser = service.browser()
    with browser.stream("GET", f"{service.url}/dashboard/live") as events:
        lines = events.iter_lines()
        assert "retry: 5000" in lines
        assert browser.post("/sign-out", headers=SAME_ORIGIN).status_code == 303
        # The rest of the stream, up to its end.
        assert set(lines) <= {"", "event: changed", "data: {}", ": still here"}


def test_streams_beyond_the_limit_are_refused(service: DashboardService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 0)
    answer = service.browser().get("/live")
    assert answer.status_code == 503
    assert "Too many pages are live." in answer.text


def test_stranger_has_no_stream(service: DashboardService) -> None:
    assert service.browser(None).get("/live").status_code == 303

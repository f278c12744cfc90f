"""The stream of events that pages listen to."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from discue.control.activity import activity_mark
from discue.dashboard import live
from discue.domain.errors import Overloaded
from discue.http.rsgi import ClientGone
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService

pytestmark = pytest.mark.usefixtures("_short_rounds")


async def lasting() -> bool:
    return True


async def never() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def _short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROUND_SECONDS", 0.02)


def test_change_in_the_organization_is_an_event(service: DashboardService, shop: Shop) -> None:
    with service.browser().stream("GET", f"{service.url}/dashboard/live") as events:
        assert events.headers["content-type"] == "text/event-stream"
        lines = events.iter_lines()
        # The first event is that of the beginning.
        assert "event: changed" in lines
        published = service.api().post(f"/queues/{shop.queue}/messages", json={"data": {"order": 9_200, "total": 1}})
        assert published.status_code == 200
        assert "event: changed" in lines


def test_stream_begins_with_an_event(service: DashboardService, monkeypatch: pytest.MonkeyPatch) -> None:
    # No later round shows changes between the rendering of a page and the beginning of its stream.
    monkeypatch.setattr(live, "ROUND_SECONDS", 1_000.0)
    with service.browser().stream("GET", f"{service.url}/dashboard/live") as events:
        assert "event: changed" in events.iter_lines()


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


def test_streams_of_a_user_and_of_an_organization_have_limits(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 12)
    monkeypatch.setattr(live, "STREAMS_OF_A_USER", 2)
    # Streams of tests before may not have ended yet.
    monkeypatch.setattr(service.app.pages["dashboard"], "streams", live.LiveStreams(service.app._services, None))
    browsers, others = [service.browser() for _ in range(2)], service.foreign_browser()
    url = f"{service.url}/dashboard/live"
    with ExitStack() as opened:
        for browser in (browsers[0], browsers[0], browsers[1]):
            assert opened.enter_context(browser.stream("GET", url)).status_code == 200
            if service.streams == 2:
                assert browsers[0].get("/live").status_code == 503
        assert service.streams == 3
        # The third of three of the organization; another one has streams of its own.
        assert browsers[1].get("/live").status_code == 503
        assert opened.enter_context(others.stream("GET", url)).status_code == 200


def test_stream_counts_from_its_admission_until_it_is_closed(service: DashboardService) -> None:
    async def admitted() -> tuple[int, int]:
        streams = live.LiveStreams(service.app._services, None)
        made = [
            await streams.watch(service.principal, service.principal.organization, lasting, never)
            for _ in range(live.STREAMS_OF_A_USER)
        ]
        with pytest.raises(Overloaded):
            await streams.watch(service.principal, service.principal.organization, lasting, never)
        before = streams._open["all", 0]
        for each in made:
            await each.aclose()
        return before, streams._open["all", 0]

    assert service.run(admitted()) == (live.STREAMS_OF_A_USER, 0)


@pytest.mark.parametrize("accounts", [1, 4, 6])
def test_accounts_share_the_streams_and_leave_some_for_others(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch, accounts: int
) -> None:
    monkeypatch.setattr(live, "MOST_STREAMS", 80)

    async def opened() -> Counter[int]:
        streams, open_ones = live.LiveStreams(service.app._services, None), list[AsyncGenerator[bytes, None]]()
        had: Counter[int] = Counter()
        # Each stream is of another user and another organization of its account, and everyone asks for 30.
        for number in range(30 * accounts):
            account = number % accounts
            principal = replace(service.principal, organization=10_000 + number, key=10_000 + number)
            with suppress(Overloaded):
                open_ones.append(await streams.watch(principal, account, lasting, never))
                had[account] += 1
        late = replace(service.principal, organization=1, key=1)
        open_ones.append(await streams.watch(late, 4_711, lasting, never))
        for each in open_ones:
            await each.aclose()
        assert not streams._open
        return had

    had = service.run(opened())
    assert max(had.values()) <= 20
    assert had.total() == min(20 * accounts, 60)


def test_stream_to_a_client_that_is_gone_is_closed(service: DashboardService) -> None:
    class Gone:
        def response_stream(self, status: int, headers: object) -> None:
            raise ClientGone

    closed = []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            yield b""
            yield b"more"
        finally:
            closed.append(True)

    async def served() -> None:
        pieces = events()
        await anext(pieces)
        request = SimpleNamespace(exchange=Gone(), response_headers=[], is_page=True)
        await service.app._stream(request, pieces)

    service.run(served())
    assert closed == [True]


def test_stream_ends_when_its_client_disconnects(service: DashboardService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROUND_SECONDS", 1_000.0)
    streams = live.LiveStreams(service.app._services, None)

    async def watched() -> list[bytes]:
        gone = asyncio.Event()

        async def disconnected() -> None:
            await gone.wait()

        events = await streams.watch(service.principal, service.principal.organization, lasting, disconnected)
        first = await anext(events)
        gone.set()
        return [first, *[piece async for piece in events]]

    assert service.run(watched()) == [b"retry: 5000\nevent: changed\ndata: {}\n\n"]
    assert streams._open["all", 0] == 0


def test_other_methods_open_no_stream(service: DashboardService) -> None:
    browser = service.browser()
    assert browser.head("/live").status_code == 405
    assert browser.post("/live", headers=SAME_ORIGIN).headers["allow"] == "GET"


def test_stranger_has_no_stream(service: DashboardService) -> None:
    assert service.browser(None).get("/live").status_code == 303

"""Pages and forms reserve what they read, as requests of the API do, and forms are small."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from discue.dashboard import app, forms, steps
from discue.dashboard.portal import app as portal_app
from discue.domain.errors import Overloaded
from discue.domain.reservations import HTML_PAGE, ROW_BYTES, ReadBound
from discue.store.ledger import Ledger, Reservation
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService
from tests.support.portals import opened, own_queue

_LARGE = "x" * 20_000


@pytest.fixture(scope="module")
def plain(service: DashboardService) -> str:
    """The id of a queue without a schema."""
    with service.api() as api:
        return str(api.post("/queues", json={"alias": f"plain-{uuid.uuid4().hex[:8]}"}).json()["queue"]["id"])


@pytest.fixture
def seen(service: DashboardService, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of requests, in the order in which they begin."""
    made: list[str] = []

    def noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            made.append(name)
            return original(*values, **named)

        return run

    ledger = service.control.store.ledger
    monkeypatch.setattr(ledger, "reserve", noting("reserve", ledger.reserve))

    def end(reservation: Reservation, size: int) -> None:
        if reservation.rows:
            made.append("end")
        Ledger.end(ledger, reservation, size)

    monkeypatch.setattr(ledger, "end", end)
    for name, place, attribute in (
        ("parse", forms, "parse_form"),
        ("act", steps, "done_by"),
        ("render", app, "render"),
        ("render", portal_app, "render"),
    ):
        monkeypatch.setattr(place, attribute, noting(name, getattr(place, attribute)))
    return made


def test_page_is_rendered_in_a_turn_of_its_organization(service: DashboardService, seen: list[str]) -> None:
    browser = service.browser()
    seen.clear()
    assert browser.get("/queues").status_code == 200
    assert seen == ["reserve", "render", "end"]


def test_form_is_parsed_acted_on_and_shown_again_in_a_turn(service: DashboardService, seen: list[str]) -> None:
    browser = service.browser()
    seen.clear()
    assert browser.post("/queues/new", data={"alias": "?"}, headers=SAME_ORIGIN).status_code == 422
    assert seen == ["reserve", "parse", "act", "render", "end"]


def test_form_that_waits_for_another_server_keeps_no_turn(
    service: DashboardService, shop: Shop, seen: list[str]
) -> None:
    browser = service.browser()
    seen.clear()
    page = browser.post(f"{shop.listener('crm-sync')}/test", data={"data": "{}"}, headers=SAME_ORIGIN)
    assert page.status_code == 200, page.text
    assert seen == ["reserve", "parse", "end", "act", "reserve", "render", "end"]


def test_pages_and_forms_of_the_portal_take_turns(service: DashboardService, seen: list[str]) -> None:
    queue, browser = own_queue(service, "acme"), opened(service, "acme")
    seen.clear()
    token = browser.form_token("/endpoints/new")
    assert seen == ["reserve", "render", "end"]
    seen.clear()
    form = {"csrf": token, "notify_url": "?", f"queue-{queue}": "on"}
    assert browser.post("/endpoints/new", data=form, headers=SAME_ORIGIN).status_code == 422
    assert seen == ["reserve", "parse", "act", "render", "end"]


def test_turn_of_a_large_form_is_as_large(
    service: DashboardService, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, ledger, rows = service.browser(), service.control.store.ledger, []

    async def reserve(organization: int, bound: ReadBound) -> Any:
        rows.append(bound.rows)
        return await Ledger.reserve(ledger, organization, bound)

    monkeypatch.setattr(ledger, "reserve", reserve)
    text = "x" * 2 * HTML_PAGE.rows * ROW_BYTES
    assert browser.post(f"/queues/{plain}/publish", data={"data": text, "as": "text"}, headers=SAME_ORIGIN).is_redirect
    assert rows[0] > 2 * HTML_PAGE.rows


def test_large_form_is_parsed_on_a_thread(
    service: DashboardService, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    original = asyncio.to_thread

    async def to_thread(work: Callable[..., Any], *values: Any) -> Any:
        threads.append(work)
        return await original(work, *values)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    browser = service.browser()
    for text in ("small", _LARGE):
        form = {"data": text, "as": "text"}
        assert browser.post(f"/queues/{plain}/publish", data=form, headers=SAME_ORIGIN).is_redirect
    assert threads.count(forms.parse_form) == 1


@pytest.mark.parametrize("path", ["/topics/new", "/sign-in", "/invitation", "/theme"])
@pytest.mark.parametrize("role", ["owner", None])
def test_forms_without_data_are_small(service: DashboardService, path: str, role: Any) -> None:
    if path == "/topics/new" and role is None:
        return
    for size in (20_000, 300_000):
        page = service.browser(role).post(path, data={"alias": "x" * size}, headers=SAME_ORIGIN)
        assert page.status_code == 413


def test_publish_is_refused_under_overload_before_its_data_is_read(
    service: DashboardService, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(organization: int, size: int = 0) -> None:
        assert (organization, size) == (service.principal.organization, 0)
        raise Overloaded

    browser = service.browser()
    monkeypatch.setattr(service.control.store, "check_capacity", refuse)
    page = browser.post(f"/queues/{plain}/publish", data={"data": "{", "as": "json"}, headers=SAME_ORIGIN)
    assert page.status_code == 503

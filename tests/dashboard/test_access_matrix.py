"""Every page and form of the dashboard for every kind of caller: what is expected follows from the route alone."""

import re

import pytest

from discue.dashboard.pages import ROUTES
from discue.dashboard.users.users import scopes_of_role
from discue.dashboard.visit import PageRoute
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService

_FORMS = [route for route in ROUTES if route.act is not None]
_UNKNOWN = "0" * 21

every_page = pytest.mark.parametrize("route", ROUTES, ids=[route.path or "/" for route in ROUTES])
every_form = pytest.mark.parametrize("route", _FORMS, ids=[route.path for route in _FORMS])


@pytest.fixture(scope="module")
def stranger(service: DashboardService) -> Browser:
    return service.browser(None)


@pytest.fixture(scope="module")
def viewer(service: DashboardService) -> Browser:
    return service.browser("viewer")


@pytest.fixture(scope="module")
def foreigner(service: DashboardService) -> Browser:
    """The owner of another organization."""
    return service.foreign_browser()


def _filled(route: PageRoute, shop: Shop) -> str:
    """Return the path of a route with ids of the shop."""
    ids = {
        "queues": shop.queue,
        "listeners": shop.listeners["tax-report"],
        "messages": shop.messages[-1],
        "schedules": shop.schedule,
        "topics": shop.topic,
        "channels": shop.channel,
        "event-types": shop.event_type,
        "sources": shop.source,
        "users": shop.user,
        "keys": shop.key,
        "domains": shop.domain,
        "attempts": _UNKNOWN,
    }
    return re.sub(r"/([\w-]+)/\{id\}", lambda found: f"/{found[1]}/{ids[found[1]]}", route.path)


@every_page
def test_stranger_is_led_to_the_sign_in_page(stranger: Browser, shop: Shop, route: PageRoute) -> None:
    path = _filled(route, shop)
    for answer in (stranger.get(path), stranger.post(path, headers=SAME_ORIGIN)):
        assert answer.status_code == 303, answer.text
        assert "/sign-in" in answer.headers["location"]


@every_page
def test_viewer_sees_what_the_role_may_read(viewer: Browser, shop: Shop, route: PageRoute) -> None:
    is_hidden = bool(route.needs) and route.needs not in scopes_of_role("viewer")
    is_for_writers = route.is_form and bool(route.writes or route.needs)
    answer = viewer.get(_filled(route, shop))
    if is_hidden or is_for_writers:
        assert answer.status_code == 403, answer.text
    else:
        assert answer.status_code in {200, 303, 403, 404}, answer.text


@every_form
def test_form_is_for_those_who_may_write(viewer: Browser, shop: Shop, route: PageRoute) -> None:
    if route.writes or route.needs:
        answer = viewer.post(_filled(route, shop), headers=SAME_ORIGIN)
        assert answer.status_code == 403, answer.text
    else:
        assert route.path.startswith("/account")


@every_page
def test_resources_of_another_organization_do_not_exist(foreigner: Browser, shop: Shop, route: PageRoute) -> None:
    if "{id}" not in route.path:
        return
    path, form = _filled(route, shop), {"action": "disable", "job": _UNKNOWN}
    assert foreigner.get(path, params=form).status_code == 404
    expected = 405 if route.act is None else 404
    assert foreigner.post(path, data=form, headers=SAME_ORIGIN).status_code == expected

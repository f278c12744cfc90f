"""The search box: its language, and where it leads."""

from urllib.parse import urlencode

import pytest

from discue.dashboard.pages.search import QUALIFIERS, Search, parse_search
from discue.domain.errors import BadRequest
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService

NOW = 1_795_536_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orders", Search("orders")),
        ("  key:customer-9  ", Search(key="customer-9")),
        ("key:a:b since:2h queue:orders", Search(key="a:b", since=NOW - 7_200_000, queue="orders")),
        ("since:2026-07-01 state:missed", Search(since=1_782_864_000_000, state="missed")),
        ("listener:billing status:5xx", Search(listener="billing", status="5xx")),
        ("", Search()),
    ],
)
def test_search_is_parsed(text: str, expected: Search) -> None:
    assert parse_search(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kye:1", '"kye:" is not a qualifier; did you mean key. The qualifiers are key:'),
        ("key:", '"key:" needs a value right behind the colon.'),
        ("state:lost", '"state:" is one of pending, retrying, missed, acknowledged, no_listeners.'),
        ("status:999 listener:a", '"status:" must be a status such as 503'),
        ("status:503", '"status:" needs a listener'),
        ("since:yesterday", '"since:" is a time such as 2026-07-01'),
        ("since:9999-99-99", '"since:" is a time such as 2026-07-01'),
        ("two words", "Search for one name or id at a time"),
    ],
)
def test_search_that_cannot_be_answered_is_explained(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_search(text, NOW)

    assert sentence in raised.value.detail


def test_id_or_name_of_one_thing_leads_to_it(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    places = {
        "orders": f"/queues/{shop.queue}",
        shop.queue: f"/queues/{shop.queue}",
        "billing": shop.listener("billing"),
        shop.listeners["billing"]: shop.listener("billing"),
        shop.messages[0]: shop.message(0),
        shop.topic: f"/topics/{shop.topic}",
        shop.schedule: f"/queues/{shop.queue}/schedules/{shop.schedule}",
        "nightly": f"/queues/{shop.queue}/schedules/{shop.schedule}",
        "ada@example.com": f"/users/{shop.user}",
        shop.user: f"/users/{shop.user}",
        "listener:crm-sync status:5xx": f"{shop.listener('crm-sync')}?status=5xx#attempts",
    }
    for text, place in places.items():
        answer = browser.get("/search", params={"q": text})
        assert answer.headers.get("location") == f"../dashboard{place}", text


def test_path_with_a_name_leads_to_the_search_for_it(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    for path, query in (
        ("/queues/orders", "queue:orders"),
        ("/queues/orders/listeners/billing", "listener:billing"),
        ("/queues/a&b c", "queue:a&b c"),
    ):
        answer = browser.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].endswith(f"/search?{urlencode({'q': query})}")
    stranger = service.browser(None).get("/queues/orders")
    assert stranger.headers["location"].endswith("/sign-in?next=/queues/orders")
    assert browser.get("/queues/orders/nothing").status_code == 404
    assert browser.post("/queues/orders", headers=SAME_ORIGIN).status_code == 404


def test_messages_are_found_by_qualifiers(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    found = browser.get("/search", params={"q": "key:customer-6 since:1d queue:orders"}).text
    assert found.count("customer-6</span>") == 2
    assert "No message matches" in browser.get("/search", params={"q": "key:nobody"}).text
    assert "No queue is called" in browser.get("/search", params={"q": "key:a queue:nothing"}).text
    assert "&#34;kye:&#34; is not a qualifier" in browser.get("/search", params={"q": "kye:a"}).text


def test_listeners_of_one_name_are_told_apart_by_their_queues(service: DashboardService, shop: Shop) -> None:
    with service.api() as api:
        api.post("/queues", json={"alias": "twin"}).raise_for_status()
        fields = {"alias": "billing", "notify_url": "http://hooks.example.com:9001/twin"}
        api.post("/queues/twin/listeners", json=fields).raise_for_status()
        page = service.browser().get("/search?q=billing").text
        api.delete("/queues/twin").raise_for_status()
    assert "<td>listener of twin</td>" in page
    assert "<td>listener of orders</td>" in page


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("status=418", "No attempts with status 418"),
        ("status=0", "No attempts without a response"),
        ("status=4xx&outcome=failed", "No failed attempts with status 4xx"),
    ],
)
def test_listener_without_attempts_of_a_status_says_so(
    service: DashboardService, shop: Shop, query: str, sentence: str
) -> None:
    page = service.browser().get(f"{shop.listener('billing')}?{query}").text
    assert f"<h2>{sentence}</h2>" in page
    assert "Nothing has been sent yet" not in page
    assert f'{shop.listener("billing")}#attempts">Show all</a>' in page


def test_filter_of_attempts_is_shown_and_kept(service: DashboardService, shop: Shop) -> None:
    page = service.browser().get(f"{shop.listener('crm-sync')}?status=503").text
    assert 'Only attempts with status 503. <a href="' in page
    assert '<input type="hidden" name="status" value="503">' in page


def test_beginning_of_a_name_offers_the_names_that_begin_with_it(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    found = browser.get("/search", params={"q": "crm"}).text
    assert "Nothing has this id or name" in found
    assert f'<a href="../dashboard{shop.listener("crm-sync")}">crm-sync</a> (listener)' in found
    assert '<a href="?q=key:crm">key:crm</a>' in found
    assert "Did you mean crm-sync?" in browser.get("/search", params={"q": "listener:crm status:5xx"}).text
    for text, path, name in (
        ("night", f"/queues/{shop.queue}/schedules/{shop.schedule}", "nightly</a> (schedule)"),
        ("ADA@", f"/users/{shop.user}", "ada@example.com</a> (user)"),
        ("sho", f"/topics/{shop.topic}", "shop</a> (topic)"),
    ):
        assert f'dashboard{path}">{name}' in browser.get("/search", params={"q": text}).text, text
    for path, kind, text, name in (
        ("/listeners", "listener", "crm", "crm-sync"),
        ("/queues", "queue", "order", "orders"),
        ("/schedules", "schedule", "night", "nightly"),
    ):
        page = browser.get(path, params={"alias": text}).text
        assert f"No {kind} has this name" in page
        assert f'<a href="?alias={name}">{name}</a>' in page
    assert "Only a whole name matches." in browser.get("/topics", params={"alias": "zzz"}).text


def test_search_offers_only_what_the_role_can_read(service: DashboardService, shop: Shop) -> None:
    browser = service.browser("viewer")
    assert "nightly</a> (schedule)" in browser.get("/search", params={"q": "night"}).text
    for text in ("ada@", "ada@example.com", shop.user):
        assert "Nothing has this id or name" in (page := browser.get("/search", params={"q": text}).text)
        assert "Did you mean" not in page


def test_search_finds_nothing_of_another_organization(service: DashboardService, shop: Shop) -> None:
    browser = service.foreign_browser()
    own = (shop.queue, shop.listeners["billing"], shop.messages[0], shop.topic, shop.schedule, shop.user)
    for text in ("orders", "billing", "nightly", "ada@example.com", *own):
        answer = browser.get("/search", params={"q": text})
        assert answer.status_code == 200, text
        assert "Nothing has this id or name" in answer.text, text
    for beginning in ("order", "night", "ada"):
        assert "Did you mean" not in browser.get("/search", params={"q": beginning}).text


def test_every_qualifier_is_explained_on_the_page(service: DashboardService) -> None:
    page = service.browser().get("/search").text
    assert [name for name in QUALIFIERS if f"<dt>{name}:</dt>" not in page] == []

"""Attacks on the portal: foreign ids, codes, cookies, frames and forms."""

import re
import uuid
from typing import Any

import httpx
import pytest

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.portal import tables
from discue.dashboard.portal.pages import ROUTES, SHOWN_TYPES
from tests.dashboard.portal.conftest import HOSTS, Tenants, made
from tests.dashboard.portal.test_portal import pages_of
from tests.support.dashboards import SAME_ORIGIN, DashboardService, deep_list
from tests.support.portals import (
    FRAME_COOKIE,
    PORTAL_COOKIE,
    Customer,
    chosen,
    new_session,
    opened,
    opened_at,
    sessions_path,
)

_FRAMED = {"sec-fetch-dest": "iframe"}


def test_another_organization_has_nothing_of_the_same_customer(service: DashboardService, tenants: Tenants) -> None:
    with service.api() as api:
        made = api.post("/organizations", json={"alias": f"com.example.p{uuid.uuid4().hex[:8]}"}).json()
    key, organization = made["api_key"]["key"], made["organization"]["id"]
    with httpx.Client(base_url=service.url, headers={"x-api-key": key}, transport=service.transport) as theirs:
        queue = theirs.post("/queues", json={"alias": "order.paid"}).json()["queue"]["id"]
        path = f"/organizations/{organization}/portal_sessions"
        session = theirs.post(path, json={"customer": "acme", "queues": ["order.paid"]}).json()["portal_session"]
        assert session["queues"] == [queue]
        refused = theirs.post(path, json={"customer": "acme", "queues": [tenants.queue]})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/queues/0"
        assert theirs.post(sessions_path(service), json={"customer": "acme", "queues": [queue]}).status_code == 404
        assert theirs.get(sessions_path(service)).status_code == 404
        assert (
            theirs.put(sessions_path(service).removesuffix("_sessions"), json={"frame_ancestors": []}).status_code
            == 404
        )
        browser = opened_at(service, session["url"])
    assert "No endpoints yet" in browser.get("").text
    for path in pages_of(tenants.own).values():
        if tenants.own.queue in path:
            assert browser.get(path).status_code == 403, path


def test_a_code_opens_one_session_within_a_minute(service: DashboardService, tenants: Tenants) -> None:
    url = new_session(service, "acme")["url"].removeprefix(f"{service.url}/portal")
    stranger = Customer(service.url, transport=service.transport)
    assert stranger.head(url).status_code == 401
    first = stranger.get(url)
    assert first.headers["location"] == "../portal"
    assert re.fullmatch(r"discue-portal=[0-9A-Za-z]{43}; Path=/; HttpOnly; SameSite=Lax", first.headers["set-cookie"])
    again = Customer(service.url, transport=service.transport).get(url)
    assert again.status_code == 403
    assert "This link has already been used or has expired." in again.text
    assert "set-cookie" not in again.headers
    late = new_session(service, "acme")["url"].removeprefix(f"{service.url}/portal")
    service.advance(60)
    assert Customer(service.url, transport=service.transport).get(late).status_code == 403


def test_a_repeated_request_does_not_show_the_url_again(service: DashboardService, tenants: Tenants) -> None:
    with service.api() as api:
        body = {"customer": "acme"}
        answers = [
            api.post(sessions_path(service), json=body, headers={"idempotency-key": "portal-1"}).json()
            for _ in range(2)
        ]
    assert "url" in answers[0]["portal_session"]
    assert "url" not in answers[1]["portal_session"]
    assert answers[0]["portal_session"]["id"] == answers[1]["portal_session"]["id"]


def test_wrong_codes_lock_nobody_out(service: DashboardService, tenants: Tenants) -> None:
    """Any site can make the browsers of an office send them."""
    guesser = Customer(service.url, transport=service.transport)
    pages = [guesser.get(f"/open?code=guess{number}") for number in range(27)]
    assert all("This link has already been used" in page.text for page in pages)
    assert opened(service, "acme").get("").status_code == 200


def test_pages_of_event_types_are_bounded_however_many_and_large_their_schemas_are(service: DashboardService) -> None:
    schema = {"json_schema": {"enum": [deep_list(30_000)]}, "customer": "many-types"}
    with service.api() as api:
        queues = [api.post("/queues", json=schema).json()["queue"] for _ in range(SHOWN_TYPES + 2)]
    browser = opened(service, "many-types")
    first, second, beyond = (browser.get("/event-types", params={"page": page}) for page in ("1", "2", "3"))
    for page in (first, second, beyond):
        assert page.status_code == 200
        assert len(page.content) < 60_000 * SHOWN_TYPES
    assert 'href="?page=2"' in first.text
    assert beyond.text == first.text
    for queue in queues:
        assert (queue["alias"] in first.text) != (queue["alias"] in second.text)
    assert all(queue["alias"] in browser.get("/endpoints/new").text for queue in queues)


def test_actions_that_are_too_many_are_one_fault(service: DashboardService, tenants: Tenants) -> None:
    body = {"customer": "acme", "queues": [tenants.queue], "may": [""] * 15_000}
    with service.api() as api:
        refused = api.post(sessions_path(service), json=body)
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/may"]


def test_every_form_of_the_portal_needs_an_action() -> None:
    assert [
        route.path for route in ROUTES if route.act is not None and (route.action is None or not route.is_form)
    ] == []


def test_topics_and_customers_add_a_bounded_number_of_queues(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, queues = [], []
    with service.api() as api:
        for _ in range(2):
            topics.append(api.post("/topics", json={}).json()["topic"]["id"])
            for _ in range(3):
                queues.append(api.post("/queues", json={"customer": "many-topics"}).json()["queue"])
                channel = {"queue_id": queues[-1]["id"]}
                api.post(f"/topics/{topics[-1]}/channels", json=channel).raise_for_status()
    monkeypatch.setattr(tables, "MOST_QUEUES", 4)
    page = opened(service, "many-topics", queues[-1]["id"], topics=topics).get("/endpoints/new").text
    assert [queue["alias"] in page for queue in queues] == [True] * 4 + [False, True]
    # A customer also adds a bounded number of queues: the first ones are shown.
    page = opened(service, "many-topics").get("/endpoints/new").text
    assert [queue["alias"] in page for queue in queues] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("destination", ["image", "empty", "embed", "script"])
def test_link_that_is_loaded_as_a_part_of_a_page_is_refused_and_stays_valid(
    service: DashboardService, tenants: Tenants, destination: str
) -> None:
    place = new_session(service, "acme")["url"].partition("/portal")[2]
    customer = Customer(service.url, transport=service.transport)
    refused = customer.get(place, headers={"sec-fetch-dest": destination})
    assert (refused.status_code, "Open it in a new tab." in refused.text) == (403, True)
    assert customer.get(place, headers={"sec-fetch-dest": "iframe"}).status_code == 303


def test_cookies_of_the_dashboard_and_the_portal_are_not_interchangeable(
    service: DashboardService, acme: Customer, tenants: Tenants
) -> None:
    owner = service.browser()
    for cookies in (dict(owner.cookies), {PORTAL_COOKIE: owner.cookies[LOOPBACK_NAME]}):
        assert Customer(service.url, transport=service.transport, cookies=cookies).get("").status_code == 401
    token = acme.cookies[PORTAL_COOKIE]
    for cookies in ({PORTAL_COOKIE: token}, {LOOPBACK_NAME: token}):
        assert service.browser(None, cookies=cookies).get("/queues").status_code == 303
    with httpx.Client(base_url=service.url, transport=service.transport) as client:
        assert client.get("/queues", headers={"cookie": f"{PORTAL_COOKIE}={token}"}).status_code == 401
        assert client.get("/queues", headers={"x-api-key": token}).status_code == 401


def test_codes_and_tokens_are_not_interchangeable(service: DashboardService, tenants: Tenants, acme: Customer) -> None:
    code = new_session(service, "acme")["url"].partition("code=")[2]
    stranger = Customer(service.url, transport=service.transport, cookies={PORTAL_COOKIE: code})
    assert stranger.get("").status_code == 401
    token = acme.cookies[PORTAL_COOKIE]
    assert Customer(service.url, transport=service.transport).get(f"/open?code={token}").status_code == 403
    assert service.browser(None).get("/open", params={"code": code}).status_code == 403
    assert stranger.get("", params={"code": code}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    ],
)
def test_form_from_another_site_is_refused(acme: Customer, tenants: Tenants, headers: dict[str, str]) -> None:
    path = f"{tenants.own.path}/disable"
    answer = acme.post(path, data={"csrf": acme.form_token(path)}, headers=headers)
    assert answer.status_code == 403
    assert "not sent from a page of the portal" in answer.text
    assert "It is disabled" not in acme.get(tenants.own.path).text


@pytest.mark.parametrize("kind", ["none", "empty", "guessed", "of another session"])
def test_form_without_the_token_of_its_session_is_refused(
    service: DashboardService, acme: Customer, tenants: Tenants, kind: str
) -> None:
    path = f"{tenants.own.path}/disable"
    other = opened(service, "acme").form_token(path)
    tokens: dict[str, dict[str, str]] = {
        "none": {},
        "empty": {"csrf": ""},
        "guessed": {"csrf": "0" * 64},
        "of another session": {"csrf": other},
    }
    answer = acme.post(path, data=tokens[kind], headers=SAME_ORIGIN)
    assert answer.status_code == 403
    assert "belongs to another session" in answer.text
    assert "It is disabled" not in acme.get(tenants.own.path).text


def test_only_the_chosen_origins_may_embed_it(service: DashboardService, tenants: Tenants) -> None:
    settings = sessions_path(service).removesuffix("_sessions")
    with service.api() as api:
        browser = opened(service, "acme")
        assert "frame-ancestors 'none'" in browser.get("").headers["content-security-policy"]
        chosen = {"frame_ancestors": ["https://App.example.com/", "http://127.0.0.1:8080"]}
        answer = api.put(settings, json=chosen)
        assert answer.json()["portal"]["frame_ancestors"] == ["https://app.example.com", "http://127.0.0.1:8080"]
        page = browser.get("")
        assert (
            "frame-ancestors https://app.example.com http://127.0.0.1:8080;" in page.headers["content-security-policy"]
        )
        assert 'data-origins="https://app.example.com http://127.0.0.1:8080"' in page.text
        # Without a session nothing tells whose origins those are.
        stranger = Customer(service.url, transport=service.transport)
        for path in ("", "/open?code=unknown", "/event-types"):
            bare = stranger.get(path)
            assert bare.status_code in {401, 403}, path
            assert "frame-ancestors 'none'" in bare.headers["content-security-policy"], path
            assert not any(each in bare.text for each in ("<form", "<script", "<button")), path
        assert "frame-ancestors 'none'" in service.browser().get("/queues").headers["content-security-policy"]
        assert api.put(settings, json={"frame_ancestors": []}).json()["portal"]["frame_ancestors"] == []


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*",
        "https://*.example.com",
        "https:",
        "data:",
        "http://app.example.com",
        "https://app.example.com/path",
        "https://user@app.example.com",
        "https://a.example.com https://b.example.com",
        "https://a.example.com;script-src *",
        "https://a.example.com\r\nx: y",
        "'self'",
        "null",
        "",
    ],
)
def test_invalid_origin_is_refused(service: DashboardService, origin: str) -> None:
    with service.api() as api:
        answer = api.put(sessions_path(service).removesuffix("_sessions"), json={"frame_ancestors": [origin]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/frame_ancestors/0"


def test_in_a_frame_the_cookie_belongs_to_the_partition_of_the_page(
    service: DashboardService, tenants: Tenants
) -> None:
    url = new_session(service, "acme")["url"].removeprefix(f"{service.url}/portal")
    answer = Customer(service.url, transport=service.transport).get(url, headers=_FRAMED)
    assert re.fullmatch(
        r"discue-portal-frame=[0-9A-Za-z]{43}; Path=/; HttpOnly; SameSite=None; Secure; Partitioned",
        answer.headers["set-cookie"],
    )


def test_tab_and_frame_of_one_browser_have_a_session_each(service: DashboardService, tenants: Tenants) -> None:
    """A frame on a page of the same site is sent the cookies of both."""
    tab, frame = (
        opened(service, name, tenants.queue, theme={"radius": px}) for name, px in (("acme", 1), ("globex", 2))
    )
    both = {PORTAL_COOKIE: tab.cookies[PORTAL_COOKIE], FRAME_COOKIE: frame.cookies[PORTAL_COOKIE]}
    browser = Customer(service.url, transport=service.transport, cookies=both)
    assert "/acme" in browser.get("").text
    shown = browser.get("", headers=_FRAMED)
    assert "/globex" in shown.text
    assert 'theme.css?framed=true"' in shown.text
    assert "2px" in browser.get("/theme.css?framed=true", headers={"sec-fetch-dest": "style"}).text
    assert "1px" in browser.get("/theme.css", headers={"sec-fetch-dest": "style"}).text
    for name, headers in ((PORTAL_COOKIE, _FRAMED), (FRAME_COOKIE, {})):
        alone = Customer(service.url, transport=service.transport, cookies={name: both[name]})
        assert alone.get("", headers=headers).status_code == 200
    token = frame.form_token("")
    left = browser.post("/sign-out", data={"csrf": token}, headers={**SAME_ORIGIN, **_FRAMED})
    assert left.status_code == 200
    assert {each.partition("=")[0] for each in left.headers.get_list("set-cookie")} == set(both)


@pytest.mark.parametrize(("name", "headers"), [(PORTAL_COOKIE, {}), (FRAME_COOKIE, _FRAMED)])
def test_session_cookie_that_is_sent_twice_is_refused_whatever_the_other_holds(
    service: DashboardService, acme: Customer, name: str, headers: dict[str, str]
) -> None:
    """A sibling domain may have planted either of them, and the cookie of the other name."""
    token, other = acme.cookies[PORTAL_COOKIE], ({PORTAL_COOKIE, FRAME_COOKIE} - {name}).pop()
    stranger = Customer(service.url, transport=service.transport)
    sent = {**headers, "cookie": f"{name}={token}; {name}=planted; {other}={token}"}
    assert stranger.get("", headers=sent).status_code == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accent", "red;}body{background:url(https://evil.example)}"),
        ("accent", "#12345"),
        ("font", 'x";}@import "https://evil.example'),
        ("font", "url(x)"),
        ("radius", 99),
        ("logo_url", "https://evil.example/logo.png"),
        ("logo_url", "data:image/svg+xml;base64,PHN2Zz4="),
        ("logo_url", "data:text/html;base64,PHNjcmlwdD4="),
        ("logo_url", "data:image/png;base64,PHNjcmlwdD4="),
        ("scheme", "blue"),
    ],
)
def test_invalid_theme_is_refused(service: DashboardService, tenants: Tenants, field: str, value: object) -> None:
    body = {"customer": "acme", "queues": [tenants.queue], "theme": {field: value}}
    with service.api() as api:
        answer = api.post(sessions_path(service), json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == f"/theme/{field}"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"customer": ""}, "/customer"),
        ({"customer": " acme"}, "/customer"),
        ({"customer": "a\nb"}, "/customer"),
        ({"queues": ["nowhere"]}, "/queues/0"),
        ({"topics": ["nowhere"]}, "/topics/0"),
        ({"queues": ["discue.system-events"]}, "/queues/0"),
        ({"may": ["create", "everything"]}, "/may/1"),
        ({"expires_in": 59}, "/expires_in"),
        ({"expires_in": 604_801}, "/expires_in"),
        ({"return_url": "javascript:alert(1)"}, "/return_url"),
        ({"return_url": "//evil.example"}, "/return_url"),
    ],
)
def test_invalid_session_is_refused(
    service: DashboardService, tenants: Tenants, fields: dict[str, Any], pointer: str
) -> None:
    with service.api() as api:
        answer = api.post(sessions_path(service), json={"customer": "acme", "queues": [tenants.queue], **fields})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_script_in_names_urls_and_bodies_stays_text(service: DashboardService) -> None:
    script = "<script>alert(1)</script>"
    with service.api() as api:
        queue = made(api, "/queues", customer=script, json_schema={"title": script})
    browser = opened(service, script)
    added = browser.act("/endpoints/new", notify_url=f"{HOSTS}/{script}", **chosen(queue))
    [path] = re.findall(r'href="[^"]*(/queues/\w+/listeners/\w+)"', added.text)
    with service.api() as api:
        message = made(api, f"/queues/{queue}/messages", data={"order": 1, "note": script})
    service.settle()
    pages = [added, *(browser.get(each) for each in ("", path, "/event-types", f"{path}/edit", f"{path}/test"))]
    pages.append(browser.get(f"/queues/{queue}/messages/{message}"))
    for page in pages:
        assert page.status_code == 200, page.text
        assert "<script>alert" not in page.text


def test_script_that_embeds_it_may_be_loaded_by_any_site(service: DashboardService) -> None:
    answer = Customer(service.url, transport=service.transport).get("/embed.js")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "portalHeight" in answer.text

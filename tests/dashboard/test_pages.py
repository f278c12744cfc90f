"""Pages as browsers get them: what they show, to whom, and what forms on them do."""

import html
import json
import re
from typing import Any

import pytest

from discue import __version__
from discue.control import jobs
from discue.dashboard import exchange
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import HOSTS, Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService, deep_list

PAGE_BYTES = 60_000
SCRIPT_LINES = 600
STYLE_BYTES = 25_000
OF_THE_INSTALLATION = {"workers", "settings"}
NOT_FOR_VIEWERS = {
    *(
        "disable",
        "queue-delete",
        "listener-delete",
        "rotate",
        "test",
        "redeliver",
        "replay",
        "queue-new",
        "queue-edit",
        "publish",
        "erase",
        "listener-new",
        "listener-edit",
        "domain-new",
        "missed-selected",
        "listeners-selected",
        "schedule-new",
        "schedule-edit",
        "schedule-delete",
        "transform",
        "event-type-new",
        "event-type",
        "event-type-delete",
        "topic-new",
        "topic-edit",
        "topic-delete",
        "channel-new",
        "channel-edit",
        "channel-delete",
    ),
    *("keys", "key-new", "key"),
    *OF_THE_INSTALLATION,
}
_ABSOLUTE = re.compile(r'(?:href|src|action)="/')
_SCRIPT = "<script>alert(1)</script>"


def test_every_page_is_shown_to_its_owner_with_strict_headers(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    for name, path in paths_of(shop).items():
        answer = browser.get(path)
        assert answer.status_code == 200, (name, answer.text)
        assert answer.text.count("<h1") == 1, name
        assert f"discue <span>{__version__}</span>" in answer.text, name
        assert len(answer.content) <= PAGE_BYTES, name
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), name
        assert answer.headers["cache-control"] == "no-store", name
        assert "style=" not in answer.text, name
        assert "onclick" not in answer.text, name
        # Absolute links would not work below the prefix of a proxy.
        assert not _ABSOLUTE.search(answer.text), name


def test_viewer_sees_pages_without_actions(service: DashboardService, shop: Shop) -> None:
    browser = service.browser("viewer")
    for name, path in paths_of(shop).items():
        answer = browser.get(path)
        if name in NOT_FOR_VIEWERS or name.startswith("user"):
            assert answer.status_code == 403, name
            assert "scope" in answer.text or name in OF_THE_INSTALLATION, name
        else:
            assert answer.status_code == 200, name
            forms = set(re.findall(r'action="[^"]*/([a-z-]+)"', answer.text))
            # Everyone can sign out of their own other browsers.
            own = ["sessions"] if name == "account" else []
            assert forms <= {"search", "theme", "sign-out", *own}, name


def test_viewer_cannot_change_anything(service: DashboardService, shop: Shop) -> None:
    browser = service.browser("viewer")
    for path in (shop.listener("billing"), f"{shop.listener('billing')}/disable", f"/queues/{shop.queue}/publish"):
        answer = browser.post(path, data={"data": "{}"}, headers=SAME_ORIGIN)
        assert answer.status_code == 403, path


def test_pages_of_another_organization_do_not_exist(service: DashboardService, shop: Shop) -> None:
    browser = service.foreign_browser()
    own = (shop.queue, shop.blocked_queue, shop.user, shop.topic, shop.event_type, shop.key, shop.domain)
    for name, path in paths_of(shop).items():
        answer = browser.get(path)
        is_hidden = name == "inbox" or any(each in path for each in own)
        expected = 404 if is_hidden else 403 if name in OF_THE_INSTALLATION else 200
        assert answer.status_code == expected, (name, answer.text)
        assert "tax-report" not in answer.text, name


def test_stranger_is_led_to_the_sign_in_page_and_back(service: DashboardService) -> None:
    browser = service.browser(None)
    answer = browser.get("/queues")
    assert answer.status_code == 303
    assert answer.headers["location"] == "../dashboard/sign-in?next=/queues"
    page = browser.get("/sign-in?next=/queues")
    assert 'name="next" value="/queues"' in page.text
    assert 'value=""' in browser.get("/sign-in?next=//example.com").text
    for path in ("/queues%0d%0aset-cookie:a=b", "/%22%3E%3Cscript%3E", "//example.com"):
        assert browser.get(path).status_code == 404, path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    ],
)
def test_form_from_another_site_is_refused(service: DashboardService, shop: Shop, headers: dict[str, str]) -> None:
    path = shop.listener("billing")
    answer = service.browser().post(f"{path}/disable", headers=headers)
    assert answer.status_code == 403
    assert "not sent from a page of this dashboard" in answer.text
    assert service.api().get(path).json()["listener"]["status"] == "enabled"


def test_form_with_the_origin_of_the_service_is_accepted(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    path = shop.listener("warehouse")
    disabled = browser.post(f"{path}/disable", headers={"origin": service.url})
    assert disabled.status_code == 303
    page = browser.get(f"{path}?done=disabled")
    assert "It is disabled by a request." in page.text
    assert "Listener disabled." in page.text
    enabled = browser.post(path, headers=SAME_ORIGIN)
    assert enabled.headers["location"].endswith(f"{path}?done=enabled")
    assert service.api().get(path).json()["listener"]["status"] == "enabled"


def test_refused_publish_form_keeps_its_fields_and_names_the_fault(service: DashboardService, shop: Shop) -> None:
    browser, path = service.browser(), f"/queues/{shop.queue}/publish"
    rules = (
        ("{broken", "", "must be JSON"),
        ('{"order": "many", "total": 1}', "", "/order"),
        ("{}", "a b", "visible ASCII"),
    )
    for typed, event_type, fault in rules:
        fields = {"data": typed, "as": "json", "key": "k1", "type": event_type}
        answer = browser.post(path, data=fields, headers=SAME_ORIGIN)
        assert answer.status_code in {400, 422}
        assert fault in answer.text
        assert 'aria-invalid="true"' in answer.text
        assert typed.replace('"', "&#34;") in answer.text
        assert 'value="k1"' in answer.text


@pytest.mark.parametrize(
    ("fields", "example"),
    [
        ({}, {"hello": "world"}),
        ({"schema": {"order": {"type": "number", "min": 17}}}, {"order": 17}),
        ({"json_schema": {"type": "object", "required": ["state"]}}, {"state": "example"}),
        ({"schema": {"code": {"type": "string", "pattern": "^[A-Z]+$"}}}, None),
    ],
    ids=["no schema", "rules", "JSON Schema", "a pattern"],
)
def test_publish_form_starts_with_an_example_that_the_queue_accepts(
    service: DashboardService, fields: dict[str, Any], example: Any
) -> None:
    browser = service.browser()
    with service.api() as api:
        queue = api.post("/queues", json=fields).json()["queue"]["id"]
        path = f"/queues/{queue}/publish"
        [data] = re.findall(r'<textarea id="data"[^>]*>([^<]*)</textarea>', browser.get(path).text)
        data = html.unescape(data)
        if example is None:
            assert data == ""
        else:
            assert json.loads(data) == example
            assert browser.post(path, data={"data": data, "as": "json"}, headers=SAME_ORIGIN).status_code == 303
        api.delete(f"/queues/{queue}").raise_for_status()


def test_published_message_is_shown_with_its_deliveries(service: DashboardService, shop: Shop) -> None:
    browser, path = service.browser(), f"/queues/{shop.queue}/publish"
    typed = '{"order": 9001, "total": 1, "note": "<script>alert(1)</script>"}'
    answer = browser.post(path, data={"data": typed, "as": "json", "type": "order.paid"}, headers=SAME_ORIGIN)
    assert answer.status_code == 303, answer.text
    service.settle()
    message = answer.headers["location"].partition("dashboard")[2].partition("?")[0]
    page = browser.get(message)
    assert page.status_code == 200
    assert "crm-sync" in page.text
    assert "Retry at" in page.text
    assert '<dt>Type</dt><dd class="mono">order.paid</dd>' in page.text
    assert '<span class="cut mono">order.paid</span>' in browser.get(f"/queues/{shop.queue}").text
    # The page has the response to one attempt, and links to those with the others.
    others = re.findall(r'href="(\?attempt=\w+)#', page.text)
    assert len(others) > 1
    shown = [page.text, *[browser.get(message + other).text for other in others]]
    assert any("upstream connect error" in each for each in shown)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>alert" not in page.text


def test_message_and_listener_say_which_trace_they_have(service: DashboardService, shop: Shop) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with service.api() as api:
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        message = {"data": {"order": 9002, "total": 1}}
        made = api.post(f"/queues/{shop.queue}/messages", json=message, headers=headers).json()
    browser = service.browser()
    page = browser.get(f"/queues/{shop.queue}/messages/{made['message']['id']}")
    assert f'in the trace <span class="mono">{trace}</span>' in page.text
    settings = browser.get(f"{shop.listener('tax-report')}/settings")
    assert "<dt>Traces</dt><dd>propagate</dd>" in settings.text


def test_stored_script_stays_text_on_every_page_that_shows_it(service: DashboardService, shop: Shop) -> None:
    fields = {"key": _SCRIPT, "headers": {"x-note": f"\"'>{_SCRIPT}"}, "content_type": "text/html", "data": _SCRIPT}
    made = service.api().post(f"/queues/{shop.blocked_queue}/messages", json=fields)
    assert made.status_code == 200, made.text
    browser, queue = service.browser(), f"/queues/{shop.blocked_queue}"
    message = made.json()["message"]["id"]
    listener = service.api().get(f"{queue}/listeners").json()["listeners"][0]["id"]
    for path in (
        queue,
        f"{queue}?key={_SCRIPT}",
        f"{queue}/messages/{message}",
        f"{queue}/publish?copy={message}",
        f"{queue}/listeners/{listener}/test?message={message}",
        f"/search?q=key:{_SCRIPT}",
        f"/search?q={_SCRIPT}",
        f"/listeners?alias={_SCRIPT}",
    ):
        page = browser.get(path).text
        assert "&lt;script&gt;alert(1)" in page, path
        assert "<script>alert" not in page, path


def test_blocked_message_says_why_it_waits(service: DashboardService, shop: Shop) -> None:
    page = service.browser().get(paths_of(shop)["message-blocked"]).text
    [delivery] = service.api().get(paths_of(shop)["message-blocked"]).json()["message"]["deliveries"]
    assert delivery["waits_for"] in page


def test_preview_of_a_large_redelivery_is_counted_in_part(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_COUNTED_ON_PAGES", 1)
    page = service.browser().get(f"{shop.listener('tax-report')}/redeliver").text
    assert "At least <strong>1 message</strong> will be sent again" in page
    assert "Redeliver all</button>" in page


def test_redelivery_shows_a_preview_and_then_its_progress(service: DashboardService, shop: Shop) -> None:
    browser, listener = service.browser(), shop.listener("tax-report")
    missed = service.api().get(listener).json()["listener"]["messages"]["missed_count"]
    assert f"<strong>{missed} messages</strong> will be sent again" in browser.get(f"{listener}/redeliver").text
    started = browser.post(f"{listener}/redeliver", data={"pace": "1000"}, headers=SAME_ORIGIN)
    assert started.headers["location"].endswith("/jobs?done=redelivering"), started.text
    service.settle()
    page = browser.get(f"{listener}/jobs").text
    assert "1000 per second" in page
    assert "1000 per second" in page


def test_queue_is_deleted_only_with_its_name_and_listener_with_a_click(service: DashboardService) -> None:
    browser, api = service.browser(), service.api()
    queue = api.post("/queues", json={"alias": "old-orders"}).json()["queue"]["id"]
    url = {"notify_url": "http://hooks.example.com:9001/x"}
    listener = api.post(f"/queues/{queue}/listeners", json=url).json()["listener"]["id"]
    assert "cannot be restored" in browser.get(f"/queues/{queue}/listeners/{listener}/delete").text
    gone = browser.post(f"/queues/{queue}/listeners/{listener}/delete", headers=SAME_ORIGIN)
    assert gone.headers["location"].endswith(f"/queues/{queue}/listeners?done=listener_deleted")
    assert api.get(f"/queues/{queue}/listeners/{listener}").status_code == 404

    refused = browser.post(f"/queues/{queue}/delete", data={"name": "old"}, headers=SAME_ORIGIN)
    assert refused.status_code == 422
    assert "must be the name of the queue: old-orders" in refused.text
    deleted = browser.post(f"/queues/{queue}/delete", data={"name": "old-orders"}, headers=SAME_ORIGIN)
    assert deleted.headers["location"].endswith("/queues?done=queue_deleted")
    assert api.get(f"/queues/{queue}").status_code == 404


def test_rotated_secret_is_shown_once(service: DashboardService, shop: Shop) -> None:
    browser, listener = service.browser(), shop.listener("billing")
    page = browser.post(f"{listener}/rotate", data={"hours": "1"}, headers=SAME_ORIGIN).text
    assert "whsec_" in page
    assert "whsec_" not in browser.get(f"{listener}/settings").text
    assert "Changed: signing secrets" in browser.get("/events").text
    wrong = browser.post(f"{listener}/rotate", data={"hours": "soon"}, headers=SAME_ORIGIN)
    assert wrong.status_code == 422
    assert "must be a number from 0 to 168" in wrong.text


def test_test_request_shows_what_the_listener_answers(service: DashboardService, shop: Shop) -> None:
    answer = service.browser().post(
        f"{shop.listener('billing')}/test", data={"data": "{", "as": "json"}, headers=SAME_ORIGIN
    )
    assert answer.status_code == 400
    assert "must be JSON" in answer.text


def test_braces_in_a_path_are_not_an_id(service: DashboardService) -> None:
    assert service.browser("owner").get("/topics/{id}").status_code == 404


@pytest.mark.parametrize("role", ["owner", None])
def test_unknown_page_does_not_grow_with_the_steps_in_its_path(service: DashboardService, role: Any) -> None:
    browser = service.browser(role)
    usual, deep = (browser.get("/a" * steps) for steps in (2, 3_000))
    assert usual.status_code == deep.status_code == 404
    assert len(deep.content) < 2 * len(usual.content)


def test_schema_that_indents_would_make_many_times_as_long_is_shown_without_them(service: DashboardService) -> None:
    schema = {"enum": [deep_list(30_000)]}
    with service.api() as api:
        queue = api.post("/queues", json={"json_schema": schema}).raise_for_status().json()["queue"]["id"]
    browser = service.browser()
    for page in ("settings", "edit"):
        answer = browser.get(f"/queues/{queue}/{page}")
        assert answer.status_code == 200
        assert "1,1,1,1,1,1" in answer.text
        assert len(answer.content) < 100_000


def test_page_of_a_topic_shows_the_beginning_of_each_filter(service: DashboardService) -> None:
    conditions = [{"data": {"$contains": f"some text {number}"}} for number in range(98)]
    with service.api() as api:
        topic, queue = (api.post(path, json={}).json() for path in ("/topics", "/queues"))
        path = f"/topics/{topic['topic']['id']}"
        channel = {"queue_id": queue["queue"]["id"], "filter": {"$or": conditions}}
        api.post(f"{path}/channels", json=channel).raise_for_status()
    shown = service.browser().get(path).text
    assert "some text 0" in shown
    assert "some text 97" not in shown


def test_unknown_page_is_a_page(service: DashboardService) -> None:
    answer = service.browser().get("/nothing")
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert "<nav" in answer.text
    stranger = service.browser(None).get("/nothing/there")
    assert stranger.status_code == 404
    assert '<form class="field" method="get" action="../../docs/search" role="search">' in stranger.text


@pytest.mark.parametrize("accept", ["application/json", "application/problem+json"])
def test_error_of_a_page_is_as_in_the_api(service: DashboardService, accept: str) -> None:
    headers = {"accept": accept, "x-request-id": "mine"}
    error = service.browser().get("/nothing", headers=headers)
    assert (error.headers["content-type"], error.headers["x-request-id"]) == (accept, "mine")
    assert error.json() == {
        "type": f"{service.url}/docs/errors/not_found",
        "code": "not_found",
        "title": "Not Found",
        "status": 404,
        "request_id": "mine",
        "detail": "There is no such page.",
    }
    assert service.api().get(error.json()["type"], headers={"accept": accept}).json()["error"]["code"] == "not_found"
    refused = service.browser().request("DELETE", "/queues", headers=headers)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert refused.json()["type"] == f"{service.url}/docs/errors/method_not_allowed"


def test_pages_have_request_ids(service: DashboardService) -> None:
    browser = service.browser()
    ids = [browser.get(path).headers["x-request-id"] for path in ("/queues", "/nothing", "/sign-in")]
    assert len(set(ids)) == len(ids)


def test_method_that_no_page_has_is_refused(service: DashboardService) -> None:
    answer = service.browser().request("DELETE", "/queues")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"


def test_one_time_code_signs_in_once(service: DashboardService) -> None:
    code = service.code()
    first = service.browser(None).get("/open", params={"code": code})
    assert first.status_code == 303
    assert "HttpOnly; SameSite=Lax" in first.headers["set-cookie"]
    again = service.browser(None).get("/open", params={"code": code})
    assert again.status_code == 403
    assert "already been used" in again.text
    assert "discue users create EMAIL" in again.text


def test_signed_out_session_shows_nothing(service: DashboardService) -> None:
    browser = service.browser()
    copied = dict(browser.cookies)
    assert browser.post("/sign-out", headers=SAME_ORIGIN).status_code == 303
    stale = service.browser(None, cookies=copied)
    assert stale.get("/queues").status_code == 303


def test_theme_is_remembered_in_a_cookie(service: DashboardService) -> None:
    browser = service.browser()
    answer = browser.post("/theme", data={"theme": "dark", "next": "/queues"}, headers=SAME_ORIGIN)
    assert answer.headers["location"] == "../dashboard/queues"
    assert '<html lang="en" data-theme="dark">' in browser.get("/queues").text


def test_browser_that_opens_the_service_is_led_to_the_dashboard(service: DashboardService) -> None:
    client = service.api()
    assert client.get("/", headers={"accept": "text/html,*/*;q=0.8"}).headers["location"] == "dashboard"
    assert client.get("/").json()["_links"]
    assert client.get("/dashboards").status_code == 404


def test_files_are_cached_forever_under_the_hash_of_their_content(service: DashboardService) -> None:
    browser = service.browser(None)
    page = browser.get("/sign-in").text
    [path] = re.findall(r'href="\.\./dashboard(/static/dashboard-[0-9a-f]{12}\.css)"', page)
    answer = browser.get(path)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.content) <= 25_000


def test_scripts_and_styles_stay_small() -> None:
    sizes: dict[str, int] = {"js": 0, "css": 0}
    for name, file in exchange.FILES.items():
        kind = name.rpartition(".")[2]
        if kind in sizes:
            sizes[kind] += file.content.count(b"\n") if kind == "js" else len(file.content)
    assert 0 < sizes["js"] <= SCRIPT_LINES
    assert 0 < sizes["css"] <= STYLE_BYTES


def test_preview_of_a_replay_names_its_ends_and_says_if_a_filter_decides(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    with service.api() as api:
        queue = api.put("/queues/replayed").json()["queue"]["id"]
        fields = {"notify_url": f"http://{HOSTS}:9001/"}
        listener = api.put("/queues/replayed/listeners/plain", json=fields).json()["listener"]["id"]
        path = f"/queues/{queue}/listeners/{listener}/replay?from=2020-01-01T00:00"
        ids, pages = [], []
        for order in (1, 2):
            message = api.post("/queues/replayed/messages", json={"data": {"order": order}}).json()["message"]
            ids.append(message["id"])
            pages.append(browser.get(path).text)
        for chosen in ({"filter": {"data": {"order": 2}}}, {"filter": None, "types": ["order.*"]}):
            api.put("/queues/replayed/listeners/plain", json=chosen).raise_for_status()
            pages.append(browser.get(path).text)
        api.delete("/queues/replayed").raise_for_status()

    one, both, filtered, typed = (
        [" ".join(each.split()) for each in re.findall(r"<p[^>]*>(.*?)</p>", page)] for page in pages
    )
    assert f'It is <span class="id">{ids[0]}</span>.' in one
    assert "<strong>1 message</strong> will be sent again." in one
    assert f'From <span class="id">{ids[0]}</span> to <span class="id">{ids[1]}</span>.' in both
    assert "Up to <strong>2 messages</strong> will be sent again: those that its types and filter accept." in filtered
    assert filtered == typed

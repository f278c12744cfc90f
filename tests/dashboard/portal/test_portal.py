"""The portal as customers use it: what they see of their endpoints, and what they do with them."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from discue.dashboard.portal.rules import USUAL_ACTIONS
from tests.dashboard.portal.conftest import HOSTS, REFUSING, Endpoint, Tenants, made
from tests.support.dashboards import SAME_ORIGIN, DashboardService, dashboard_service
from tests.support.portals import (
    FRAME_COOKIE,
    PORTAL_COOKIE,
    Customer,
    chosen,
    new_session,
    opened,
    opened_at,
    own_queue,
    sessions_path,
)

PAGE_BYTES = 60_000
_LOGO = "data:image/png;base64,iVBORw0KGgo="


def pages_of(of: Endpoint) -> dict[str, str]:
    """Return a path of every page, by the action that it needs, or by what it is."""
    endpoint = of.path
    return {
        "endpoints": "",
        "event types": "/event-types",
        "endpoint": endpoint,
        "missed": f"{endpoint}/missed",
        "selected": f"{endpoint}/missed/redeliver",
        "jobs": f"{endpoint}/jobs",
        "verification": f"{endpoint}/verification",
        "message": of.message_path,
        "create": "/endpoints/new",
        "edit": f"{endpoint}/edit",
        "disable": f"{endpoint}/disable",
        "delete": f"{endpoint}/delete",
        "secrets": f"{endpoint}/secrets",
        "test": f"{endpoint}/test",
        "redeliver": f"{endpoint}/redeliver",
        "replay": f"{endpoint}/replay?from=2020-01-01T00:00",
    }


def test_every_page_is_shown_with_strict_headers(acme: Customer, tenants: Tenants) -> None:
    for name, path in pages_of(tenants.own).items():
        page = acme.get(path)
        assert page.status_code == 200, (name, page.text)
        assert page.text.count("<h1") == 1, name
        assert len(page.content) <= PAGE_BYTES, name
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"], name
        assert page.headers["cache-control"] == "no-store", name
        assert "style=" not in page.text, name
        # Headers of requests have the name of the service; the rest of the portal is the organization's.
        assert "discue" not in re.sub(r"(?s)<(dl|pre).*?</\1>", "", page.text).lower(), name


def test_a_customer_sees_their_own_endpoints_and_no_others(acme: Customer, tenants: Tenants) -> None:
    page = acme.get("").text
    assert f"{HOSTS}/acme" in page
    assert "up to date" in page
    for others in ("globex", "internal", "initech"):
        assert others not in page


@pytest.mark.parametrize("action", USUAL_ACTIONS)
def test_a_session_has_only_the_pages_of_permitted_actions(
    service: DashboardService, tenants: Tenants, action: str
) -> None:
    browser = opened(service, "acme", may=[action])
    paths = pages_of(tenants.own)
    for each in USUAL_ACTIONS:
        page = browser.get(paths[each])
        assert page.status_code == (200 if each == action else 403), each
    links = set(re.findall(r'href="[^"]*/([a-z]+)"', browser.get(paths["endpoint"]).text)) & set(USUAL_ACTIONS)
    assert links <= {action}


def test_a_session_without_actions_is_refused_every_form(service: DashboardService, tenants: Tenants) -> None:
    browser = opened(service, "acme", may=[])
    token = opened(service, "acme").form_token("/endpoints/new")
    for name, path in pages_of(tenants.own).items():
        answer = browser.post(path, data={"csrf": token}, headers=SAME_ORIGIN)
        assert answer.status_code in {403, 405}, name
    assert browser.get("").status_code == 200


def test_a_customer_adds_edits_disables_and_deletes_an_endpoint(service: DashboardService) -> None:
    queue, browser = own_queue(service, "hooli"), opened(service, "hooli")
    added = browser.act("/endpoints/new", notify_url=f"{HOSTS}/hooli", **chosen(queue))
    assert added.status_code == 200, added.text
    assert "whsec_" in added.text
    [path] = re.findall(rf'href="[^"]*(/queues/{queue}/listeners/\w+)"', added.text)
    with service.api() as api:
        stored = api.get(path).json()["listener"]
        assert (stored["customer"], stored["notify_url"]) == ("hooli", f"{HOSTS}/hooli")
        [event] = [each for each in api.get("/events").json()["events"] if each["type"] == "listener_added"][:1]
        assert "api_key_id" not in event
        sessions = {each["id"] for each in api.get(f"{sessions_path(service)}?per_page=100").json()["portal_sessions"]}
        assert event["user_id"] in sessions
        assert browser.act(f"{path}/edit", notify_url=f"{REFUSING}/hooli").status_code == 303
        assert api.get(path).json()["listener"]["notify_url"] == f"{REFUSING}/hooli"
        assert browser.act(f"{path}/disable").headers["location"].endswith(f"{path}?done=disabled")
        assert "It is disabled.</p>" in browser.get(path).text
        assert browser.act(f"{path}/enable").headers["location"].endswith(f"{path}?done=enabled")
        assert api.get(path).json()["listener"]["status"] == "enabled"
        assert browser.act(f"{path}/delete").headers["location"].endswith("portal?done=deleted")
        assert api.get(path).status_code == 404
    assert "No endpoints yet" in browser.get("").text


def test_a_customer_describes_an_endpoint_and_limits_its_rate_if_they_may(service: DashboardService) -> None:
    queue, usual = own_queue(service, "hooli"), opened(service, "hooli")
    limiting = opened(service, "hooli", may=["create", "edit", "delete", "limit"])
    url = f"{HOSTS}/limited"
    fields = {"notify_url": url, "description": "Books orders", "per_second": "2.5"}
    added = limiting.act("/endpoints/new", **fields, **chosen(queue))
    [path] = re.findall(rf'href="[^"]*(/queues/{queue}/listeners/\w+)"', added.text)

    with service.api() as api:

        def stored() -> tuple[str, Any]:
            found = api.get(path).json()["listener"]
            return found.get("description", ""), found.get("rate_limit")

        assert stored() == ("Books orders", {"per_second": 2.5, "burst": 3})
        assert "Books orders" in limiting.get("").text
        shown = limiting.get(f"{path}/edit").text
        assert ('value="Books orders"' in shown, 'value="2.5"' in shown) == (True, True)
        api.put(path, json={"rate_limit": {"per_second": 4, "burst": 9}})
        # Without a change, the burst that the organization has set stays.
        assert limiting.act(f"{path}/edit", **{**fields, "per_second": "4"}).status_code == 303
        assert stored() == ("Books orders", {"per_second": 4.0, "burst": 9})
        assert "per_second" not in usual.get(f"{path}/edit").text
        assert usual.act(f"{path}/edit", notify_url=url, description="", per_second="9000").status_code == 303
        assert stored() == ("", {"per_second": 4.0, "burst": 9})
        for text, rule in (("many", "must be a number"), ("0", "must be from 0.01 to 10000"), ("nan", "must be from")):
            refused = limiting.act(f"{path}/edit", notify_url=url, per_second=text)
            assert (refused.status_code, refused.text.count(rule)) == (422, 1), text
        assert limiting.act(f"{path}/edit", notify_url=url, per_second="").status_code == 303
        assert stored() == ("", None)
        limiting.act(f"{path}/delete")


def test_refused_url_is_reported_at_its_field(acme: Customer, tenants: Tenants) -> None:
    page = acme.act("/endpoints/new", notify_url="ftp://example.com/x", **chosen(tenants.own.queue))
    assert page.status_code == 422
    assert 'aria-invalid="true"' in page.text
    assert page.text.count("must be") == 1
    assert "/notify_url" not in page.text
    assert "ftp://example.com/x" in page.text


def test_a_customer_has_room_for_a_hundred_endpoints(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discue.control.listeners.MOST_OF_A_CUSTOMER", 1)
    queue, browser = own_queue(service, "pied-piper"), opened(service, "pied-piper")
    fields = {**chosen(queue), "notify_url": f"{HOSTS}/piper"}
    assert browser.act("/endpoints/new", **fields).status_code == 200
    refused = browser.act("/endpoints/new", **fields)
    assert refused.status_code == 409
    assert "There are 1 endpoints already. Delete one first." in refused.text


def test_a_customer_adds_endpoints_for_several_event_types(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service.api() as api:
        queues = [made(api, "/queues", customer="endframe") for _ in range(2)]
    monkeypatch.setattr("discue.control.listeners.MOST_OF_A_CUSTOMER", 3)
    browser = opened(service, "endframe")
    form = browser.get(f"/endpoints/new?queue={queues[1]}").text
    assert (form.count('type="checkbox"'), form.count(" checked>")) == (2, 1)
    none = browser.act("/endpoints/new", notify_url=f"{HOSTS}/both")
    assert (none.status_code, none.text.count("It needs 1 to 20 choices.")) == (422, 1)
    added = browser.act("/endpoints/new", notify_url=f"{HOSTS}/both", **chosen(*queues))
    assert added.text.count("<pre") == 2
    # The third one fits, the fourth does not: the secret of the third is shown all the same.
    part = browser.act("/endpoints/new", notify_url=f"{HOSTS}/again", **chosen(*queues))
    assert part.text.count("<pre") == 1
    assert "The rest was not added." in part.text
    assert "There are 3 endpoints already." in part.text
    with service.api() as api:
        for each in api.get("/listeners?customer=endframe").json()["listeners"]:
            api.delete(f"/queues/{each['queue_id']}/listeners/{each['id']}")


def test_secret_is_rotated_and_shown_once(acme: Customer, tenants: Tenants) -> None:
    endpoint = tenants.own.path
    page = acme.act(f"{endpoint}/rotate", hours="1")
    assert "whsec_" in page.text
    assert "whsec_" not in acme.get(f"{endpoint}/secrets").text


def test_event_type_has_its_schema_and_an_example(acme: Customer) -> None:
    page = acme.get("/event-types").text
    assert ">Paid orders</h2>" in page
    assert "order.paid" not in page
    assert "&#34;order&#34;: 4711" in page
    assert "&#34;type&#34;: &#34;integer&#34;" in page


def test_portal_pages_show_no_alias_of_the_organization(service: DashboardService) -> None:
    url = f"{REFUSING}/customer"
    with service.api() as api:
        organization = api.get("/organizations").json()["organizations"][0]["alias"]
        title = f" {'T' * 200}"
        titled = made(api, "/queues", alias="private-a", json_schema={"title": title}, customer="hidden")
        plain = made(api, "/queues", alias="private-b", retry={"attempts": 1}, customer="hidden")
        for queue in (titled, plain):
            made(api, f"/queues/{queue}/listeners", alias="private-push", notify_url=url)
            made(api, f"/queues/{queue}/listeners", alias="private-pull", mode="pull")
            made(api, f"/queues/{queue}/messages", alias="private-message", data={"order": 10_000})
    service.settle()
    browser = opened(service, "hidden", may=[*USUAL_ACTIONS, "limit"])

    seen, left = dict[str, str](), {"", "/endpoints/new", "/event-types"}
    while left:
        path = left.pop()
        page = browser.get(path)
        seen[path] = page.text
        found = re.findall(r'(?:href|action)="[./]*portal([^"#]*)', html.unescape(page.text))
        left |= {each for each in found if "sign-out" not in each and "/assets/" not in each} - seen.keys()
    forms = [path for path in seen if path.endswith(("/edit", "/test"))]
    for number, path in enumerate(forms):
        seen[f"form {number}"] = browser.act(path, notify_url="nowhere", data="{").text
    seen["added"] = browser.act("/endpoints/new", notify_url=f"{HOSTS}/more", **chosen(titled, plain)).text

    kinds = (
        "/missed",
        "/jobs",
        "/secrets",
        "/rotate",
        "/disable",
        "/delete",
        "/redeliver",
        "/replay",
        "/edit",
        "/test",
    )
    assert all(any(path.endswith(kind) for path in seen) for kind in kinds), seen.keys()
    assert any("/messages/" in path for path in seen)
    for path, text in seen.items():
        assert not [each for each in ("private-", organization) if each in text], path
    for text in (seen["/event-types"], seen["/endpoints/new"], seen["added"]):
        assert f">{'T' * 127}<" in text
        assert plain in text
    assert url in seen[""]


def test_log_leads_to_the_timeline_of_a_message(acme: Customer, tenants: Tenants) -> None:
    log = acme.get(tenants.own.path).text
    assert "Attempts over time" in log
    assert f"/messages/{tenants.own.message}" in log
    page = acme.get(tenants.own.message_path).text
    assert "acknowledged" in page
    assert f">{HOSTS}/acme/own</a>" in page
    assert "&#34;order&#34;: 1" in page or "&#34;order&#34;:1" in page


def test_replay_and_redelivery_are_started_after_a_preview(acme: Customer, tenants: Tenants) -> None:
    endpoint = tenants.own.path
    preview = acme.get(f"{endpoint}/replay?from=2020-01-01T00:00")
    assert "will be sent again" in preview.text
    started = acme.act(
        f"{endpoint}/replay?from=2020-01-01T00:00", f"{endpoint}/replay", **{"from": "2020-01-01T00:00", "pace": "1"}
    )
    assert started.headers["location"].endswith("/jobs?done=replaying"), started.text
    jobs = acme.get(f"{endpoint}/jobs").text
    [cancel] = re.findall(r'href="[^"]*(/queues/[^"]*/cancel-replay\?job=\w+)"', jobs)
    job = cancel.partition("job=")[2]
    cancelled = acme.act(cancel, f"{endpoint}/cancel-replay", job=job)
    assert cancelled.headers["location"].endswith("/jobs?done=cancelled"), cancelled.text
    redelivery = acme.act(
        f"{endpoint}/redeliver?message={tenants.own.message}", f"{endpoint}/redeliver", message=tenants.own.message
    )
    assert redelivery.headers["location"].endswith("/jobs?done=redelivering"), redelivery.text


def test_customer_redelivers_selected_messages(service: DashboardService, tenants: Tenants) -> None:
    browser = opened(service, "aviato", tenants.queue)
    with service.api() as api:

        def missing(customer: str) -> str:
            fields = {"notify_url": f"{REFUSING}/{customer}", "customer": customer, "retry": {"attempts": 1}}
            made = api.post(f"/queues/{tenants.queue}/listeners", json=fields).json()["listener"]["id"]
            return f"/queues/{tenants.queue}/listeners/{made}"

        own, foreign = missing("aviato"), missing("bachmanity")
        for _ in range(3):
            api.post(f"/queues/{tenants.queue}/messages", json={"data": {"order": 4_999}}).raise_for_status()
        service.settle()
        page = browser.get(f"{own}/missed").text
        assert "data-bulk" not in opened(service, "aviato", tenants.queue, may=["test"]).get(f"{own}/missed").text
        picks = re.findall(r'name="(pick-[^"]+)"', page)
        assert len(picks) == 3
        path = f"{own}/missed/redeliver"
        assert "Nothing is selected" in browser.get(path).text
        preview = browser.get(path, params=dict.fromkeys(picks[:2], "on")).text
        assert "Redeliver 2 messages</button>" in preview
        done = browser.act(f"{path}?{picks[0]}=on", path, **dict.fromkeys(picks[:2], "on"))
        assert done.headers["location"].endswith(f"{own}/jobs?done=redelivering"), done.text
        assert api.get(f"{own}/redeliveries").json()["redeliveries"][0]["counts"]["selected"] == 2
        # The ids of another listener's messages in a form for the own endpoint.
        stolen = [each.replace(own.rpartition("/")[2], foreign.rpartition("/")[2]) for each in picks]
        refused = browser.act(path, **dict.fromkeys(stolen, "on"))
        assert (refused.status_code, "a row that is not in the list" in refused.text) == (422, True)
        unmissed = f"{picks[0].rpartition('.')[0]}.{tenants.message}"
        partly = browser.act(path, **{unmissed: "on"})
        assert "A selected message was deleted, or was not missed." in partly.text
        assert api.get(f"{foreign}/redeliveries").json()["redeliveries"] == []
        for each in (own, foreign):
            api.delete(each).raise_for_status()


def test_theme_is_a_stylesheet_and_a_logo_in_the_page(service: DashboardService, tenants: Tenants) -> None:
    theme = {"accent": "#ffee00", "font": "Inter, sans-serif", "radius": 12, "logo_url": _LOGO, "scheme": "dark"}
    browser = opened(service, "acme", theme=theme, return_url="https://app.example.com/settings")
    page = browser.get("").text
    assert '<html lang="en" data-theme="dark">' in page
    assert f'<img src="{_LOGO}" alt="">' in page
    assert '<a class="back" href="https://app.example.com/settings" target="_top"' in page
    style = browser.get("/theme.css")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert 'font-family:"Inter",sans-serif' in style.text
    assert "border-radius:12px" in style.text
    assert "light-dark(" in style.text


def test_session_ends_when_it_is_revoked_or_its_time_is_over(service: DashboardService, tenants: Tenants) -> None:
    made = new_session(service, "acme", expires_in=60)
    browser = opened_at(service, made["url"])
    assert browser.get("").status_code == 200
    with service.api() as api:
        assert api.delete(f"{sessions_path(service)}/{made['id']}").status_code == 200
        ended = browser.get("")
        assert ended.status_code == 401
        assert "The session has ended." in ended.text
        short = opened(service, "acme", expires_in=60)
        service.advance(61)
        assert short.get("").status_code == 401


def test_customer_signs_out(service: DashboardService, tenants: Tenants) -> None:
    back = "https://app.example.com/settings"
    browser, other = (opened(service, "acme", return_url=back) for _ in range(2))
    copied = opened(service, "acme")
    copied.cookies.update(browser.cookies)
    refused = browser.post("/sign-out", data={"csrf": other.form_token("")}, headers=SAME_ORIGIN)
    assert refused.status_code == 403
    left = browser.act("", at="/sign-out")
    assert (left.status_code, "You are signed out" in left.text, back in left.text) == (200, True, True)
    assert PORTAL_COOKIE not in browser.cookies
    assert [each.get("").status_code for each in (browser, copied, other)] == [401, 401, 200]


def test_customer_signs_out_of_the_frame_and_the_tab_of_a_browser(service: DashboardService, tenants: Tenants) -> None:
    tab, frame = (opened(service, "acme") for _ in range(2))
    both = Customer(service.url, transport=service.transport)
    both.cookies.update({PORTAL_COOKIE: tab.cookies[PORTAL_COOKIE], FRAME_COOKIE: frame.cookies[PORTAL_COOKIE]})
    assert both.act("", at="/sign-out").status_code == 200
    assert [each.get("").status_code for each in (both, tab, frame)] == [401, 401, 401]


def test_session_whose_cookie_a_new_session_replaces_ends(service: DashboardService, tenants: Tenants) -> None:
    browser, copied = (opened(service, "acme") for _ in range(2))
    copied.cookies.update(browser.cookies)
    assert browser.get("/open?code=wrong").status_code == 403
    assert copied.get("").status_code == 200
    url = new_session(service, "acme")["url"]
    assert browser.get(url.removeprefix(f"{service.url}/portal")).status_code == 303
    assert [each.get("").status_code for each in (browser, copied)] == [200, 401]


def test_session_of_a_topic_follows_its_channels(service: DashboardService, tenants: Tenants) -> None:
    with service.api() as api:
        topic = api.post("/topics", json={"alias": "shop-events"}).json()["topic"]["id"]
        browser = opened(service, "acme", topics=["shop-events"])
        # Without a queue, the session has no scope at all, and not one without targets, which would mean all.
        assert "Nothing to receive yet" in browser.get("").text
        for endpoint in (tenants.own, tenants.acme):
            assert browser.get(endpoint.path).status_code == 403
            channel = made(api, f"/topics/{topic}/channels", queue_id=endpoint.queue)
            assert browser.get(endpoint.path).status_code == 200
            # Every action was granted while the topic led nowhere.
            is_own = endpoint is tenants.own
            assert browser.get(f"{endpoint.path}/edit").status_code == (200 if is_own else 403)
            assert (f"{HOSTS}/acme" in browser.get("").text, "Add an endpoint" in browser.get("").text) == (
                True,
                is_own,
            )
            api.delete(f"/topics/{topic}/channels/{channel}").raise_for_status()
            assert browser.get(endpoint.path).status_code == 403


def test_queue_of_another_customer_is_refused_like_one_that_does_not_exist(acme: Customer, tenants: Tenants) -> None:
    foreign, unknown = tenants.foreign, "0" * 21
    for path in (foreign.path, foreign.message_path, f"{foreign.path}/edit"):
        known, other = acme.get(path), acme.get(path.replace(foreign.queue, unknown))
        assert (known.status_code, other.status_code) == (403, 403)
        assert known.text == other.text


def test_setting_turns_the_portal_off(tmp_path: Path) -> None:
    with dashboard_service(tmp_path, portal=False) as service:
        answer = Customer(service.url, transport=service.transport).get("")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert service.browser(None).get("/sign-in").status_code == 200


def test_whole_data_and_responses_are_those_of_the_customer(
    service: DashboardService, acme: Customer, tenants: Tenants
) -> None:
    own, path = tenants.own, tenants.own.message_path
    assert acme.get(f"{path}/data").text == '{"order":1}'
    # The filter of the only endpoint of initech rejects the message.
    initech = opened(service, "initech", tenants.queue)
    assert initech.get(f"{tenants.acme.message_path}/data").status_code == 404
    [attempt, *_] = re.findall(r'class="attempt" id="(\w+)"', acme.get(path).text)
    assert acme.get(f"{own.path}/attempts/{attempt}/response").status_code == 200
    for other in (tenants.foreign, tenants.globex, tenants.internal):
        listener = f"/queues/{own.queue}/listeners/{other.listener}"
        assert acme.get(f"{listener}/attempts/{attempt}/response").status_code == 404

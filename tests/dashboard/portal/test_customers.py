"""A customer reaches nothing of others: in queues of their own, in shared queues, and in those of other customers."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from discue.dashboard.portal.pages import ROUTES
from discue.dashboard.portal.rules import ACTIONS, OWN_QUEUE_ACTIONS, SHARED_ACTIONS, USUAL_ACTIONS
from tests.dashboard.portal.conftest import HOSTS, SECRET, Endpoint, Tenants, made
from tests.dashboard.portal.test_portal import pages_of
from tests.support.dashboards import SAME_ORIGIN, DashboardService
from tests.support.portals import Customer, chosen, new_session, opened, own_queue, sessions_path

SESSIONS = ("its own queues", "shared", "shared, every action", "foreign", "every queue", "topic into every queue")
STRANGERS = ("foreign", "globex", "internal", "narrow", "unknown", "in another queue", "of another queue")
_WORDS = ("globex", "internal", "initech", "ledger", str(SECRET))
_JOBS = ("redeliveries", "replays", "secrets")


def session_of_acme(service: DashboardService, tenants: Tenants, kind: str) -> Customer:
    """Return the browser of acme in a session with all that a back end can give it."""
    queues = [tenants.own.queue, tenants.queue, tenants.foreign.queue]
    if kind == "its own queues":
        return opened(service, "acme", may=ACTIONS)
    if kind == "topic into every queue":
        with service.api() as api:
            topic = made(api, "/topics")
            for each in queues:
                made(api, f"/topics/{topic}/channels", queue_id=each)
        return opened(service, "acme", topics=[topic])
    chosen_queues = {"foreign": queues[2:], "every queue": queues}.get(kind, queues[1:2])
    most = [each for each in ACTIONS if each not in OWN_QUEUE_ACTIONS]
    return opened(service, "acme", *chosen_queues, **({} if kind == "shared" else {"may": most}))


def stranger(tenants: Tenants, kind: str) -> Endpoint:
    """Return an endpoint that acme does not have, and a message that it has not received."""
    own, foreign = tenants.own, tenants.foreign
    made_up = {
        "narrow": Endpoint(tenants.queue, tenants.narrow.listener, tenants.globex.message),
        "unknown": Endpoint(own.queue, "0" * 21, "0" * 21),
        "in another queue": Endpoint(own.queue, foreign.listener, foreign.message),
        "of another queue": Endpoint(foreign.queue, own.listener, own.message),
    }
    return made_up[kind] if kind in made_up else getattr(tenants, kind)


def filled(path: str, of: Endpoint, attempt: str) -> str:
    """Return the path of a route with the ids of an endpoint and its message."""
    path = path.replace("/queues/{id}/listeners/{id}", of.path).replace("/queues/{id}", f"/queues/{of.queue}")
    message = uuid.uuid4().hex[:21] if of.message == "0" * 21 else of.message
    return path.replace("/messages/{id}", f"/messages/{message}").replace("/attempts/{id}", f"/attempts/{attempt}")


def state_of(api: httpx.Client, tenants: Tenants) -> dict[str, Any]:
    """Return all that acme must not change."""
    state: dict[str, Any] = {}
    for of in (tenants.foreign, tenants.globex, tenants.internal, tenants.narrow):
        state[of.path] = api.get(of.path).raise_for_status().json()["listener"]
        for name in _JOBS:
            state[f"{of.path}/{name}"] = api.get(f"{of.path}/{name}").raise_for_status().json()[name]
    for queue in (tenants.queue, tenants.foreign.queue, tenants.audit):
        state[queue] = api.get(f"/queues/{queue}").raise_for_status().json()["queue"]["listeners"]
    return state


def requests_for(browser: Customer, tenants: Tenants, of: Endpoint, jobs: dict[str, str]) -> Iterator[httpx.Response]:
    """Ask for every page of an endpoint, and send every form of it."""
    fields = {
        "csrf": browser.form_token(""),
        "from": "2020-01-01T00:00",
        "data": "{}",
        "notify_url": f"{HOSTS}/stolen",
        "hours": "1",
        "message": of.message,
        f"pick-{of.queue}.{of.listener}.{of.message}": "on",
    }
    for route in ROUTES:
        if "{id}" in route.path:
            path = filled(route.path, of, jobs["attempt"])
            job = jobs["replay" if "replay" in path else "redelivery"]
            yield browser.get(path, params={"from": "2020-01-01T00:00", "job": job, "message": of.message})
            yield browser.post(path, data={**fields, "job": job}, headers=SAME_ORIGIN)
    yield browser.post("/endpoints/new", data={**fields, **chosen(of.queue)}, headers=SAME_ORIGIN)


def check_nothing_of_others_is_reached(
    service: DashboardService, tenants: Tenants, sessions: tuple[str, ...] = SESSIONS
) -> None:
    foreign = tenants.foreign
    with service.api() as api:
        attempts = api.get(f"{foreign.message_path}/attempts").json()["attempts"]
        jobs = {
            "attempt": attempts[0]["id"],
            "redelivery": made(api, f"{foreign.path}/redeliveries", messages=[foreign.message]),
            "replay": made(api, f"{foreign.path}/replays", from_message=foreign.message),
        }
        service.settle()
        before = state_of(api, tenants)
        for session in sessions:
            browser = session_of_acme(service, tenants, session)
            for kind in STRANGERS:
                for answer in requests_for(browser, tenants, stranger(tenants, kind), jobs):
                    at = (session, kind, answer.request.method, answer.url.path)
                    if answer.url.path.endswith("/endpoints/new"):
                        assert answer.status_code in {403, 422} or "in another queue" in at or "unknown" in at, at
                    else:
                        assert answer.status_code in {403, 404, 405}, (at, answer.text)
                    assert [word for word in _WORDS if word in answer.text] == [], at
            for path in ("", "/event-types", "/endpoints/new"):
                assert [word for word in _WORDS if word in browser.get(path).text] == [], (session, path)
        assert state_of(api, tenants) == before
        # The forms above add endpoints in the queue of acme itself.
        for each in api.get(f"/queues/{tenants.own.queue}/listeners?per_page=100").json()["listeners"]:
            if each["notify_url"] == f"{HOSTS}/stolen":
                api.delete(f"/queues/{tenants.own.queue}/listeners/{each['id']}").raise_for_status()


def test_session_of_any_kind_reaches_nothing_of_others(service: DashboardService, tenants: Tenants) -> None:
    check_nothing_of_others_is_reached(service, tenants)


def test_customer_shows_tests_redelivers_and_disables_in_a_shared_queue(
    service: DashboardService, sharing: Customer, tenants: Tenants
) -> None:
    endpoint = tenants.acme
    paths, shown = (
        pages_of(endpoint),
        {"endpoints", "event types", "endpoint", "verification", "missed", "selected", "jobs", "message"},
    )
    for name, path in paths.items():
        page = sharing.get(path)
        assert page.status_code == (200 if name in {*shown, *SHARED_ACTIONS} else 403), name
        assert not any(f'/{each}"' in page.text for each in ("edit", "replay", "delete", "secrets", "new")), name
    assert sharing.act(f"{endpoint.path}/disable").headers["location"].endswith("?done=disabled")
    assert sharing.act(f"{endpoint.path}/enable").headers["location"].endswith("?done=enabled")
    assert 'id="result"' in sharing.act(f"{endpoint.path}/test", data='{"order": 3}', **{"as": "json"}).text
    redelivered = sharing.act(f"{endpoint.path}/redeliver", message=endpoint.message)
    assert redelivered.headers["location"].endswith("/jobs?done=redelivering")
    service.settle()
    token = sharing.form_token("")
    for action in (*OWN_QUEUE_ACTIONS, "delete", "rotate"):
        path = "/endpoints/new" if action == "create" else f"{endpoint.path}/{action}"
        fields = {"csrf": token, "notify_url": f"{HOSTS}/stolen", "from": "2020-01-01T00:00", **chosen(endpoint.queue)}
        refused = sharing.post(path, data=fields, headers=SAME_ORIGIN)
        assert (refused.status_code, "does not include this action" in refused.text) == (403, True), action


def test_disabled_endpoint_in_a_shared_queue_shows_no_message_that_its_filter_rejects(
    service: DashboardService, sharing: Customer, tenants: Tenants
) -> None:
    endpoint = tenants.acme
    assert sharing.get(endpoint.message_path).status_code == 200
    assert sharing.get(tenants.globex.message_path).status_code == 404
    # It has every message before it, including those that its filter will not accept.
    sharing.act(f"{endpoint.path}/disable")
    with service.api() as api:
        secret = made(api, f"/queues/{endpoint.queue}/messages", data={"order": SECRET})
    assert sharing.get(f"/queues/{endpoint.queue}/messages/{secret}").status_code == 404
    assert sharing.act(f"{endpoint.path}/enable").status_code == 303
    service.settle()
    assert sharing.get(f"/queues/{endpoint.queue}/messages/{secret}").status_code == 404


def test_redelivery_of_a_message_to_another_customer_is_refused_like_an_unknown_id(
    sharing: Customer, tenants: Tenants
) -> None:
    path, unknown = f"{tenants.acme.path}/redeliver", "0" * 21
    for is_form in (True, False):
        texts = set()
        for message in (unknown, tenants.globex.message):
            page = sharing.get(f"{path}?message={message}") if is_form else sharing.act(path, message=message)
            texts.add(page.text.replace(message, unknown))
        (text,) = texts
        assert "is not the id of a message that the endpoint has missed, or acknowledged recently" in text


def test_message_shows_only_deliveries_to_the_endpoints_of_the_customer(sharing: Customer, tenants: Tenants) -> None:
    page = sharing.get(tenants.acme.message_path).text
    assert tenants.acme.listener in page
    for other in (tenants.globex.listener, tenants.internal.listener, *_WORDS):
        assert other not in page


def test_session_without_queues_has_the_queues_of_its_customer_also_new_ones(
    service: DashboardService, tenants: Tenants
) -> None:
    made_first = new_session(service, "newcomer")
    assert (made_first["queues"], made_first["topics"], made_first["may"]) == ([], [], list(USUAL_ACTIONS))
    browser = opened(service, "newcomer")
    for path, status in (("", 200), ("/event-types", 200), ("/endpoints/new", 200), (tenants.acme.path, 403)):
        assert browser.get(path).status_code == status, path
    for path in ("", "/event-types", "/endpoints/new"):
        page = browser.get(path).text
        assert ("Nothing to receive yet" in page, "contact the support" in page, "notify_url" in page) == (
            True,
            True,
            False,
        )
    assert "Add an endpoint" not in browser.get("").text
    queue = own_queue(service, "newcomer")
    assert "Add an endpoint" in browser.get("").text
    assert browser.act("/endpoints/new", notify_url=f"{HOSTS}/newcomer", **chosen(queue)).status_code == 200
    assert f"{HOSTS}/newcomer" in browser.get("").text
    with service.api() as api:
        api.delete(f"/queues/{queue}").raise_for_status()
    assert f"{HOSTS}/newcomer" not in browser.get("").text
    assert "Nothing to receive yet" in browser.get("/endpoints/new").text


def test_session_whose_queues_are_deleted_does_not_get_others(service: DashboardService) -> None:
    own_queue(service, "leaver")
    with service.api() as api:
        other = made(api, "/queues", customer="leaver")
        browser = opened(service, "leaver", other)
        api.delete(f"/queues/{other}").raise_for_status()
    for path in ("/endpoints/new", "/event-types"):
        assert "Nothing to receive yet" in browser.get(path).text


@pytest.mark.parametrize("action", sorted(OWN_QUEUE_ACTIONS))
@pytest.mark.parametrize("where", ["shared", "foreign", "own and shared", "topic"])
def test_action_of_owners_is_refused_for_other_queues_with_the_remedy(
    service: DashboardService, tenants: Tenants, where: str, action: str
) -> None:
    fields: dict[str, Any] = {"customer": "acme", "may": ["test", action]}
    with service.api() as api:
        if where == "topic":
            fields["topics"] = [topic := made(api, "/topics")]
            made(api, f"/topics/{topic}/channels", queue_id=tenants.queue)
        else:
            named = {"shared": ["order.paid"], "foreign": ["customers/globex"]}
            fields["queues"] = named.get(where, [tenants.own.queue, "order.paid"])
        refused = api.post(sessions_path(service), json=fields)
    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["code"], [each["pointer"] for each in problem["errors"]]) == ("conflicting_fields", ["/may/1"])
    queue = "customers/globex" if where == "foreign" else "order.paid"
    assert f'"{queue}" does not' in problem["detail"]
    assert "leave the action out, or name queues that were created with the customer" in problem["detail"]


@pytest.mark.parametrize("names", [["order.paid"], ["customers/acme", "order.paid"], ["customers/globex"]])
def test_default_permissions_are_fewer_where_a_queue_is_not_of_the_customer(
    service: DashboardService, tenants: Tenants, names: list[str]
) -> None:
    assert new_session(service, "acme", *names)["may"] == list(SHARED_ACTIONS)
    assert new_session(service, "acme", "customers/acme")["may"] == list(USUAL_ACTIONS)


def test_form_offers_the_queues_of_the_customer_alone(service: DashboardService, tenants: Tenants) -> None:
    with service.api() as api:
        topic = made(api, "/topics")
        # Every action is granted while the topic leads nowhere.
        browser = opened(service, "acme", topics=[topic])
        for each in (tenants.own.queue, tenants.queue, tenants.foreign.queue):
            made(api, f"/topics/{topic}/channels", queue_id=each)
        form = browser.get("/endpoints/new").text
        offered = [each in form for each in (tenants.own.queue, tenants.queue, tenants.foreign.queue)]
        assert offered == [True, False, False]
        before = [each["id"] for each in api.get("/listeners?customer=acme&per_page=100").json()["listeners"]]
        refused = browser.act("/endpoints/new", notify_url=f"{HOSTS}/x", **chosen(tenants.queue))
        assert (refused.status_code, "It needs 1 to 20 choices." in refused.text) == (422, True)
        assert [each["id"] for each in api.get("/listeners?customer=acme&per_page=100").json()["listeners"]] == before
        types = browser.get("/event-types").text
        assert types.count("Add an endpoint<") == 1

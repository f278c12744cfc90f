"""Forms that create and change listeners."""

import re
from collections.abc import Iterator, Mapping

import pytest

from discue.control import encryption
from discue.store import listeners
from discue.store.engine import Transaction
from tests.support.dashboard_editor import Editor
from tests.support.dashboards import SAME_ORIGIN, DashboardService

_URL = "http://hooks.example.com:9001/edited"
_BASIC = {
    "authentication/type": "basic",
    "authentication/username": "discue",
    "authentication/password": " correct horse ",
}


@pytest.fixture
def queue(editor: Editor) -> Iterator[str]:
    """The path of a queue whose listeners are deleted with it."""
    made = editor.api.post("/queues", json={"retry": {"attempts": 4}}).raise_for_status().json()
    path = f"/queues/{made['queue']['id']}"
    yield path
    editor.api.delete(path).raise_for_status()


def _listener(editor: Editor, queue: str, **fields: object) -> str:
    """Create a listener with the API, and return its path."""
    made = editor.api.post(f"{queue}/listeners", json={"notify_url": _URL, **fields}).raise_for_status().json()
    return f"{queue}/listeners/{made['listener']['id']}"


def _created(editor: Editor, queue: str, **form: str) -> str:
    """Create a listener with the form, which shows its secret, and return its path."""
    page = editor.post(f"{queue}/listeners/new", **form)
    assert (page.status_code, "whsec_" in page.text) == (200, True), page.text
    [listener] = editor.api.get(f"{queue}/listeners").json()["listeners"]
    return f"{queue}/listeners/{listener['id']}"


def test_listener_of_a_queue_with_a_customer_is_not_asked_for_one(editor: Editor) -> None:
    made = editor.api.post("/queues", json={"customer": "acme"}).raise_for_status().json()
    path = f"/queues/{made['queue']['id']}"
    assert "It belongs to the customer acme, like its queue." in editor.browser.get(f"{path}/listeners/new").text
    listener = _created(editor, path, notify_url=_URL)
    assert "customer" not in editor.form(f"{listener}/edit")
    editor.done(f"{listener}/edit", **editor.form(f"{listener}/edit") | {"description": "Changed"})
    stored = editor.stored(listener)
    assert (stored["customer"], stored["description"]) == ("acme", "Changed")
    refused = editor.post(f"{path}/listeners/new", notify_url=_URL, customer="globex")
    assert (refused.status_code, "the customer of the queue" in refused.text) == (422, True)
    editor.api.delete(path).raise_for_status()


def test_listener_is_created_and_edited_with_all_of_its_settings(editor: Editor, queue: str) -> None:
    given = {
        "alias": "edited",
        "description": "Books paid orders",
        "customer": "acme",
        "notify_url": _URL,
        "liveness_url": f"{_URL}/live",
        "types": " order.*\tinvoice.paid ",
        "filter": '{\r\n  "data": {"total": {"$gte": 5}}\r\n}',
        "format": "cloudevents_binary",
        "trace": "restart",
        "headers": "x-shop: north\r\n\r\nx-colon: a:b\r\n",
        "timeout": "20",
        "max_in_flight": "7",
        "rate_limit/per_second": "0.5",
        "rate_limit/burst": "3",
        "retry/schedule": "10",
        **_BASIC,
    }
    path = _created(editor, queue, **given)
    stored = editor.stored(path)
    plain = {"notify_url", "liveness_url", "description", "customer", "format", "trace"}
    assert {name: stored[name] for name in plain} == {name: given[name] for name in plain}
    assert (stored["name"], stored["filter"]) == ("edited", {"data": {"total": {"$gte": 5}}})
    assert '{\n  "data": {"total": {"$gte": 5}}\n}' in editor.api.get(path).text
    assert (stored["types"], stored["headers"]) == (["order.*", "invoice.paid"], {"x-shop": "north", "x-colon": "a:b"})
    assert (stored["timeout"], stored["max_in_flight"]) == (20, 7)
    assert (stored["rate_limit"], stored["retry"]) == ({"per_second": 0.5, "burst": 3}, {"schedule": [10]})
    assert stored["authentication"] == {"type": "basic", "username": "discue"}

    settings = editor.browser.get(f"{path}/settings").text
    assert "<dd>0.5 per second, 3 at once</dd>" in settings
    assert '<p class="mono">order.* invoice.paid</p>' in settings
    assert "<dt>Maximum attempts</dt><dd>2</dd>" in settings
    form = editor.form(f"{path}/edit")
    emptied = {name: "" for name in form if name not in {"version", "alias", "notify_url"}}
    assert editor.done(f"{path}/edit", **form | emptied | {"format": "plain", "trace": "propagate"}) == (
        f"{path}/settings"
    )
    left = editor.stored(path).keys() - {"_links"}
    optional = plain | {
        "types",
        "filter",
        "headers",
        "timeout",
        "max_in_flight",
        "rate_limit",
        "retry",
        "authentication",
    }
    assert left & optional == {"notify_url"}
    editor.done(f"{path}/edit", **editor.form(f"{path}/edit") | {"retry/jitter": "0.5"})
    settings = editor.browser.get(f"{path}/settings").text
    assert '<dt>Maximum attempts</dt><dd>4 <span class="soft">policy of the queue</span>' in settings


def test_listener_in_pull_mode_is_created_and_edited(editor: Editor, queue: str) -> None:
    path = editor.done(f"{queue}/listeners/new", mode="pull", alias="pulled", lease_seconds="60")
    assert editor.stored(path)["lease_seconds"] == 60
    form = editor.form(f"{path}/edit")
    assert not form.keys() & {"mode", "notify_url", "headers", "timeout", "rate_limit/burst", "authentication/type"}
    editor.done(f"{path}/edit", **form | {"lease_seconds": "", "max_in_flight": "2"})
    stored = editor.stored(path)
    assert ("lease_seconds" in stored, stored["max_in_flight"], stored["mode"]) == (False, 2, "pull")
    refused = editor.post(f"{queue}/listeners/new", mode="pull", timeout="5")
    assert "It is supported in push mode only." in editor.fault(refused, "timeout")
    refused = editor.post(f"{queue}/listeners/new", mode="pull", types="order.* a..b")
    assert "visible ASCII characters" in editor.fault(refused, "types")


def test_fields_of_a_listener_that_were_not_touched_stay_as_they_are(editor: Editor, queue: str) -> None:
    authentication = {"type": "oauth2", "token_url": f"{_URL}/token", "client_id": "c", "scope": "a b"}
    kept = {
        "rate_limit": {"per_second": 0.123456789012, "burst": 1},
        "retry": {"schedule": [], "final_statuses": [], "jitter": 0.1},
        "headers": {"x-a": "b", "X-B": ""},
        "authentication": authentication,
    }
    secret = {"authentication": {**authentication, "client_secret": "s"}}
    path = _listener(editor, queue, **kept | secret)
    raw = '{"key":   {"$exists":true}}'
    json = {"content-type": "application/json"}
    editor.api.put(path, content=f'{{"filter": {raw}}}', headers=json).raise_for_status()
    form = editor.form(f"{path}/edit")
    assert form["retry/schedule"] == "none"
    editor.done(f"{path}/edit", **form | {"description": "seen"})
    stored = editor.stored(path)
    assert {name: stored[name] for name in kept} == kept
    assert f'"filter":{raw}' in editor.api.get(path).text
    # A burst that is that of one second follows the rate.
    editor.done(f"{path}/edit", **editor.form(f"{path}/edit") | {"rate_limit/per_second": "8"})
    assert editor.stored(path)["rate_limit"] == {"per_second": 8, "burst": 8}


def test_secret_of_the_authentication_is_kept_changed_and_never_shown(
    service: DashboardService, editor: Editor, queue: str
) -> None:
    path = _created(editor, queue, notify_url=_URL, **_BASIC)

    def secret() -> str:
        async def read(tx: Transaction) -> str:
            [listener] = [each for each in [await listeners.get(tx, organization, path.rpartition("/")[2])] if each]
            held = encryption.secrets_of(service.control, listener).credentials
            return "" if held is None else held.secret

        organization = service.principal.organization
        return service.run(service.control.store.read(read))

    form = editor.form(f"{path}/edit")
    assert (form["authentication/username"], form["authentication/password"]) == ("discue", "")
    editor.done(f"{path}/edit", **form | {"timeout": "9"})
    assert secret() == " correct horse "

    named = {"authentication/username": "other"}
    refused = editor.post(f"{path}/edit", **editor.form(f"{path}/edit") | named)
    assert editor.fault(refused, "authentication/password") == "It is missing."
    refused = editor.post(f"{path}/edit", **editor.form(f"{path}/edit") | {"notify_url": "http://other.example.com/x"})
    assert "It must be sent again, with its secret: the origin of notify_url changes." in refused.text
    # An error elsewhere on the form does not lose a secret that was typed.
    typed = named | {"authentication/password": "new one", "timeout": "soon"}
    refused = editor.post(f"{path}/edit", **editor.form(f"{path}/edit") | typed)
    assert "It must be a number from 1 to 300." in editor.fault(refused, "timeout")
    editor.done(f"{path}/edit", **editor.shown(refused) | {"timeout": "8"})
    assert (secret(), editor.stored(path)["authentication"]["username"]) == ("new one", "other")

    editor.done(f"{path}/edit", **editor.form(f"{path}/edit") | {"authentication/password": "newer one"})
    events = editor.browser.get("/events").text
    newest = next(each for each in events.split("<tr>") if path.rpartition("/")[2] in each)
    assert ("Changed: authentication</span>" in newest, "newer one" in events) == (True, False)

    stale = editor.form(f"{path}/edit")
    editor.api.put(path, json={"timeout": 30}).raise_for_status()
    told = editor.post(f"{path}/edit", **stale | {"authentication/password": "newest"})
    assert (told.status_code, "<dt>Password</dt>" in told.text) == (412, False)
    editor.done(f"{path}/edit", **editor.form(f"{path}/edit") | {"authentication/type": ""})
    assert (secret(), "authentication" in editor.stored(path)) == ("", False)


def test_change_of_a_listener_by_others_is_not_overwritten(editor: Editor, queue: str) -> None:
    path = _listener(editor, queue)
    opened = editor.form(f"{path}/edit")
    editor.api.put(path, json={"timeout": 30}).raise_for_status()
    refused = editor.post(f"{path}/edit", **opened | {"timeout": "60"})
    assert refused.status_code == 412
    assert "<dt>Timeout, in seconds</dt><dd>30</dd>" in refused.text
    assert editor.stored(path)["timeout"] == 30
    editor.done(f"{path}/edit", **editor.shown(refused))
    assert editor.stored(path)["timeout"] == 60


@pytest.mark.parametrize(
    ("typed", "field", "told"),
    [
        ({"notify_url": ""}, "notify_url", "It is missing."),
        ({"notify_url": "ftp://example.com"}, "notify_url", "It must be an absolute http or https URL."),
        ({"liveness_url": "no-url"}, "liveness_url", "It must be an absolute http or https URL."),
        ({"alias": "a b"}, "alias", "It must be 1 to 64 characters"),
        ({"description": "x" * 257}, "description", "It must have at most 256 printable characters."),
        ({"customer": "x" * 129}, "customer", "It must have at most 128 printable characters"),
        ({"filter": "{broken"}, "filter", "must be JSON"),
        ({"filter": '{"data": {"total": {"$atleast": 5}}}'}, "filter", "<code>/data/total"),
        ({"headers": "x-shop north"}, "headers", "must have a name, a colon and a value on each line"),
        ({"headers": "x-a: 1\nx-a: 2"}, "headers", "has the name x-a twice"),
        ({"headers": "\n".join(f"({n}: 1" for n in range(33))}, "headers", "must have at most 32 headers."),
        ({"headers": "webhook-id: 1"}, "headers", "<code>/webhook-id</code> is not allowed"),
        ({"timeout": "301"}, "timeout", "It must be a number from 1 to 300."),
        ({"max_in_flight": "0"}, "max_in_flight", "It must be a number from 1 to 1000."),
        ({"lease_seconds": "5"}, "lease_seconds", "It is supported in pull mode only."),
        ({"rate_limit/per_second": "often"}, "rate_limit/per_second", "It must be a number."),
        (
            {"rate_limit/per_second": "inf"},
            "rate_limit/per_second",
            "It must be from 0.01 to 10000 requests per second.",
        ),
        ({"rate_limit/burst": "5"}, "rate_limit/per_second", "It is missing."),
        ({"retry/schedule": "0"}, "retry/schedule", "<code>/0</code> must be from 1 to 2592000 seconds."),
        ({"retry/schedule": "1," * 200_000}, "retry/schedule", "It must have at most 50 delays."),
        ({"retry/final_statuses": "x " * 300_000}, "retry/final_statuses", "It must have at most 100 statuses."),
        ({"format": "xml"}, "format", "It must be one of plain"),
        ({"mode": "carrier-pigeon"}, "mode", "It must be one of push, pull."),
        ({"authentication/type": "basic"}, "authentication/username", "It is missing."),
        ({"authentication/password": "x"}, "authentication/type", "It must be one of basic"),
        (_BASIC | {"authentication/username": "a:b"}, "authentication/username", "It must"),
        (
            {
                "authentication/type": "certificate",
                "authentication/certificate": "x",
                "authentication/private_key": "y",
            },
            "authentication/certificate",
            "must",
        ),
    ],
)
def test_fault_of_a_listener_is_next_to_its_field(
    editor: Editor, typed: Mapping[str, str], field: str, told: str
) -> None:
    form = {"notify_url": _URL, "retry/attempts": "2", **typed}
    refused = editor.post(f"/queues/{editor.shop.queue}/listeners/new", **form)
    assert refused.status_code in {400, 422}
    assert told in editor.fault(refused, field)
    # A list has no item for what it does not offer.
    shown = editor.shown(refused) | {name: text for name, text in typed.items() if name in {"format", "mode"}}
    assert {name: shown[name] for name in form} == form


def test_forms_of_listeners_need_their_scope_and_their_organization(service: DashboardService, editor: Editor) -> None:
    path = editor.shop.listener("newsletter")
    form = editor.form(f"{path}/edit") | {"timeout": "1"}
    assert f"{path}/edit" in editor.browser.get(f"{path}/settings").text
    viewer, stranger = service.browser("viewer"), service.foreign_browser()
    assert f"{path}/edit" not in viewer.get(f"{path}/settings").text
    for each in (f"{path}/edit", f"/queues/{editor.shop.queue}/listeners/new"):
        assert viewer.post(each, data=form, headers=SAME_ORIGIN).status_code == 403
        assert stranger.post(each, data=form, headers=SAME_ORIGIN).status_code == 404
    assert "timeout" not in editor.stored(path)


def test_transform_is_tried_and_saved(service: DashboardService) -> None:
    with service.api() as api:
        queue = api.post("/queues", json={}).json()["queue"]["id"]
        made = api.post(f"/queues/{queue}/listeners", json={"mode": "pull"}).json()["listener"]["id"]
        for data in ({"order": 17}, {"total": 5}):
            api.post(f"/queues/{queue}/messages", json={"data": data, "type": "order.paid"}).raise_for_status()
    browser, path = service.browser("owner"), f"/queues/{queue}/listeners/{made}/transform"
    version = re.search(r'name="version" value="([^"]+)"', browser.get(path).text)
    assert version is not None
    form = {"version": version[1], "transform": "{shown: data.order || missing_one}"}
    tried = browser.post(path, data={**form, "transform": "data.order"}, headers=SAME_ORIGIN).text
    assert "2 messages tried" in tried
    assert "The transform returns null for the message." in tried
    assert tried.count("<h3>Body</h3>") == 1
    wrong = browser.post(path, data={**form, "transform": "{"}, headers=SAME_ORIGIN)
    assert (wrong.status_code, "is not valid JMESPath at position 1" in wrong.text) == (422, True)
    with service.api() as api:
        assert "transform" not in api.get(path.removesuffix("/transform")).json()["listener"]
        saved = browser.post(path, data={**form, "save": "on"}, headers=SAME_ORIGIN)
        assert saved.status_code == 303
        shown = api.get(path.removesuffix("/transform")).json()["listener"]
        assert shown["transform"] == "{shown: data.order || missing_one}"
    assert "missing_one" in browser.get(path.replace("/transform", "/settings")).text
    again = browser.post(path, data={**form, "save": "on"}, headers=SAME_ORIGIN)
    assert again.status_code == 412

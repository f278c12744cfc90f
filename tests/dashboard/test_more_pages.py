"""Pages about keys, domains, topics and the installation: what they show, and what their forms do."""

import html
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from discue.config.settings import SETTINGS
from discue.control import installation
from discue.control.installation import SettingInEffect
from discue.control.jobs import REDELIVERIES, REPLAYS
from discue.dashboard.formats import percent
from discue.domain.model import JobListener, MissedSelection, Redelivery, Replay
from discue.domain.scopes import PROTECTED, RESOURCES
from discue.store import replays
from discue.store.engine import Transaction
from discue.store.pagination import Listing
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService, dashboard_service

UNPROTECTED = [name for name in RESOURCES if name not in PROTECTED]


def test_key_is_created_shown_once_disabled_and_deleted(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    given = {"alias": "till", "scope-messages": "write", "scope-queues": "read", "scope-users": "write"}
    page = browser.post("/keys/new", data=given, headers=SAME_ORIGIN).text
    [text] = set(re.findall(r"dsk_\w+", page))
    found = service.api().get("/api_keys").json()["api_keys"]
    [key] = [each for each in found if each["alias"] == "till"]
    assert {name: scope["access"] for name, scope in key["scopes"].items()} == {"messages": "write", "queues": "read"}
    path = f"/keys/{key['id']}"
    assert text not in browser.get(path).text

    disabled = browser.post(path, data={"action": "disable"}, headers=SAME_ORIGIN)
    assert disabled.headers["location"].endswith(f"{path}?done=key_changed")
    assert "Enable" in browser.get(path).text
    assert browser.post(path, data={"action": "enable"}, headers=SAME_ORIGIN).status_code == 303
    assert browser.post(path, data={"action": "delete"}, headers=SAME_ORIGIN).status_code == 303
    assert browser.get(path).status_code == 404
    events = browser.get("/events").text
    assert "API key deleted" in events
    assert "till" in events
    assert f'href="../dashboard{path}"' not in events


def _new_key(browser: Browser, **given: str) -> tuple[str, str]:
    """Create a key in the form, and return its text and the command that its page shows."""
    answer = browser.post("/keys/new", data=given, headers=SAME_ORIGIN)
    assert answer.status_code == 200, answer.text
    text, command = (html.unescape(each) for each in re.findall(r"<pre[^>]*>([^<]+)</pre>", answer.text))
    return text, command


@pytest.mark.parametrize(
    ("preset", "scopes", "sent"),
    [
        ("publish", {"messages": "write"}, "POST /queues/called/messages"),
        ("consume", {"listeners": "write", "messages": "read"}, "GET /queues/called/listeners/puller/messages?max=10"),
        ("read-only", dict.fromkeys(UNPROTECTED, "read"), "GET /queues"),
        ("everything", dict.fromkeys(UNPROTECTED, "write"), "POST /queues/called/messages"),
    ],
)
def test_page_of_a_new_key_shows_a_call_that_the_key_may_make(
    service: DashboardService, preset: str, scopes: dict[str, str], sent: str
) -> None:
    schema = {"order": {"type": "number"}, "note": {"type": "string", "enum": ["it's paid"]}}
    with service.api() as api:
        api.put("/queues/called", json={"schema": schema}).raise_for_status()
        api.put("/queues/called/listeners/puller", json={"mode": "pull"}).raise_for_status()
        text, command = _new_key(service.browser(), preset=preset, alias=f"preset-{preset}", days="30")
        ended = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl -s -i --noproxy '*' ", 1)],
            capture_output=True,
            check=True,
            text=True,
        )
        [key] = [each for each in api.get("/api_keys").json()["api_keys"] if each["alias"] == f"preset-{preset}"]
        api.delete(f"/api_keys/{key['id']}").raise_for_status()
        api.delete("/queues/called").raise_for_status()

    method, path = sent.split(" ")
    assert command.startswith((f"curl {service.url}{path} ", f"curl '{service.url}{path}' "))
    assert ("-d " in command, text in command) == (method == "POST", True)
    assert ended.stdout.startswith("HTTP/1.1 200 ")
    assert {name: scope["access"] for name, scope in key["scopes"].items()} == scopes
    assert key["expires_at"] - key["created_at"] == pytest.approx(30 * 86_400_000, abs=60_000)


def test_key_whose_call_needs_a_name_says_which(service: DashboardService, tmp_path: Path) -> None:
    with dashboard_service(tmp_path) as young:
        browser = young.browser()
        _, publish = _new_key(browser, preset="publish")
        page = browser.post("/keys/new", data={"preset": "consume"}, headers=SAME_ORIGIN).text
        _, alone = _new_key(browser, preset="custom", **{"scope-schemas": "read"})

    assert "/queues/QUEUE/messages" in publish
    assert "Replace QUEUE and LISTENER with the names of a queue and of its listener in pull mode." in page
    assert alone.startswith(f"curl {young.url}/ ")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"preset": "publish", "days": "0"}, "must be a number from 1 to 36500"),
        ({"preset": "publish", "days": "soon"}, "must be a number from 1 to 36500"),
        ({"preset": "most"}, "must be one of publish, consume, read-only, everything, custom"),
    ],
)
def test_invalid_preset_or_expiry_is_named(service: DashboardService, given: dict[str, str], told: str) -> None:
    answer = service.browser().post("/keys/new", data=given, headers=SAME_ORIGIN)
    assert answer.status_code == 422
    assert told in answer.text
    assert "dsk_" not in answer.text


def test_event_names_its_key_and_links_the_changed_resource(service: DashboardService, shop: Shop) -> None:
    browser, path = service.browser(), shop.listener("old-shop")
    with service.api() as api:
        api.put(path, json={"description": "Seen in events"}).raise_for_status()
        api.put(path, json={"status": "enabled", "timeout": 9, "headers": {"x-token": "t0p-secret"}}).raise_for_status()
        api.put(path, json={"status": "disabled", "timeout": None, "headers": None}).raise_for_status()
    events = browser.get("/events").text
    disabled, enabled, row = [each for each in events.split("<tr>") if shop.listeners["old-shop"] in each][:3]
    assert "<td>Listener disabled<" in disabled
    assert '<td>Listener enabled<span class="sub">Changed: headers, timeout</span></td>' in enabled
    assert '<td>Listener updated<span class="sub">Changed: description</span></td>' in row
    assert "t0p-secret" not in events
    assert f'<a class="row cut" href="../dashboard{path}">old-shop</a>' in row
    assert re.search(r'API key <a href="../dashboard/keys/\w+">[^<]+</a>', row)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"alias": "till-2"}, "It must allow something."),
        ({"alias": "storefront", "scope-queues": "read"}, "is taken"),
        ({"alias": "a b", "scope-queues": "read"}, "must"),
    ],
)
def test_invalid_key_form_keeps_its_fields_and_names_the_fault(
    service: DashboardService, shop: Shop, given: dict[str, str], told: str
) -> None:
    answer = service.browser().post("/keys/new", data=given, headers=SAME_ORIGIN)
    assert answer.status_code in {400, 409, 422}
    assert told in answer.text
    assert f'value="{given["alias"]}"' in answer.text
    assert "dsk_" not in answer.text


def test_last_key_that_manages_keys_stays(service: DashboardService) -> None:
    [manager] = [
        each["id"] for each in service.api().get("/api_keys").json()["api_keys"] if "api_keys" in each["scopes"]
    ]
    answer = service.browser().post(f"/keys/{manager}", data={"action": "delete"}, headers=SAME_ORIGIN)
    assert answer.status_code == 409
    assert service.api().get("/api_keys").status_code == 200


def test_domain_is_added_with_its_file_and_deleted(service: DashboardService) -> None:
    browser = service.browser()
    added = browser.post("/domains/new", data={"hostname": "till.example.com"}, headers=SAME_ORIGIN)
    path = added.headers["location"].partition("dashboard")[2].partition("?")[0]
    domain = service.api().get(path).json()["domain"]
    challenge = domain["challenge"]["https"]
    page = browser.get(path).text
    assert f"https://till.example.com/{challenge['context_path']}/{challenge['file_name']}" in page
    assert challenge["file_content"] in page
    assert browser.post(path, data={"action": "delete"}, headers=SAME_ORIGIN).status_code == 303
    assert browser.get(path).status_code == 404
    wrong = browser.post("/domains/new", data={"hostname": "not a host"}, headers=SAME_ORIGIN)
    assert wrong.status_code == 422
    assert 'value="not a host"' in wrong.text


@pytest.mark.parametrize("path", ["key", "domain"])
def test_action_that_a_page_does_not_have_changes_nothing(service: DashboardService, shop: Shop, path: str) -> None:
    answer = service.browser().post(paths_of(shop)[path], data={"action": "sell"}, headers=SAME_ORIGIN)
    assert answer.status_code == 422
    assert "must be" in answer.text


@pytest.mark.parametrize(
    ("event_type", "data", "taken"),
    [
        ("orders.de.paid", '{"total": 20}', {"orders": "yes", "returns": "no"}),
        ("orders.de.paid", '{"total": 1}', {"orders": "no", "returns": "no"}),
        ("returns.de", "", {"orders": "no", "returns": "yes"}),
        ("", '{"total": 20}', {"orders": "no", "returns": "no"}),
    ],
)
def test_tried_message_shows_where_it_would_go(
    service: DashboardService, shop: Shop, event_type: str, data: str, taken: dict[str, str]
) -> None:
    before = service.api().get(f"/queues/{shop.queue}").json()
    page = service.browser().get(f"/topics/{shop.topic}", params={"type": event_type, "data": data}).text
    shown = re.findall(r'<li class="(yes|no)"><div><a class="row" href="[^"]+">(\w+)</a>', page)
    assert {queue: each for each, queue in shown} == taken
    assert service.api().get(f"/queues/{shop.queue}").json() == before


@pytest.mark.parametrize(
    ("event_type", "data"), [("orders..paid", "{}"), ("orders.>", "{}"), ("orders.paid", "{broken")]
)
def test_invalid_message_is_explained(service: DashboardService, shop: Shop, event_type: str, data: str) -> None:
    answer = service.browser().get(f"/topics/{shop.topic}", params={"type": event_type, "data": data})
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert 'class="yes"' not in answer.text


def test_settings_have_values_and_origins_without_secrets(service: DashboardService) -> None:
    page = service.browser().get("/settings").text
    assert all(each.name in page for each in SETTINGS)
    assert "dsk_" not in page


def test_changed_settings_come_before_those_with_their_default(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    origins = ("", "variable DISCUE_PORT")
    shown = [SettingInEffect(each, "8080", origin) for each, origin in zip(SETTINGS, origins, strict=False)]
    monkeypatch.setattr(installation, "settings_in_effect", lambda *_: shown)
    page = service.browser().get("/settings").text
    assert re.findall(r'<td class="mono">(\w+)</td>', page) == [SETTINGS[1].name, SETTINGS[0].name]
    assert "DISCUE_PORT" in page


def test_users_of_other_organizations_do_not_see_the_installation(service: DashboardService) -> None:
    browser = service.foreign_browser()
    for path in ("/workers", "/settings"):
        answer = browser.get(path)
        assert answer.status_code == 403
        assert "Only owners and admins of the operator" in answer.text
        assert "/workers" not in browser.get("").text


def test_progress_of_replays_is_listed_for_all_listeners(service: DashboardService, shop: Shop) -> None:
    page = service.browser().get("/jobs/replays").text
    assert "warehouse" in page
    assert re.search(r'aria-label="\d+(\.\d)? % done"', page)


def _show_replay(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch, alias: str, **fields: Any
) -> None:
    """Show one replay of a listener in all lists of replays."""
    public_id, read = shop.listeners[alias], service.control.store.read
    row = service.run(read(lambda tx: tx.row("SELECT id FROM listener WHERE public_id = $1", public_id)))
    assert row is not None
    replay = Replay(
        organization=service.principal.organization,
        id=1,
        public_id="0" * 21,
        listener=row[0],
        from_seq=1,
        until_seq=9,
        position=0,
        selected=9,
        created_at=1,
        updated_at=1,
        **fields,
    )
    of = JobListener(public_id, alias, shop.queue)

    async def page(*_: object) -> Listing[object]:
        return Listing((replay,), has_next=False, has_previous=False)

    async def page_of_all(*_: object) -> Listing[object]:
        return Listing(((replay, of),), has_next=False, has_previous=False)

    monkeypatch.setattr(REPLAYS, "page", page)
    monkeypatch.setattr(REPLAYS, "page_of_all", page_of_all)


def test_waiting_replay_says_that_others_have_all_slots(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _show_replay(service, shop, monkeypatch, "billing", state="waiting")

    async def hold(tx: Transaction, count: int) -> None:
        row = await tx.row("SELECT session_id FROM worker WHERE dead = 0")
        assert row is not None
        await replays.hold_slots(tx, row[0], service.principal.organization, count)

    for count, says in (0, False), (2, False), (3, True), (0, False):
        service.run(service.control.store.write(partial(hold, count=count)))
        for path in ("/jobs/replays", f"{shop.listener('billing')}/jobs"):
            shown = service.browser().get(path).text
            assert ("Three replays of the organization run at a time" in shown) is says, (path, count)


@pytest.mark.parametrize(("state", "says"), [("waiting", True), ("done", False)])
def test_replay_that_is_not_done_says_why_its_listener_gets_nothing(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch, state: Any, *, says: bool
) -> None:
    _show_replay(service, shop, monkeypatch, "billing", state=state)
    path = shop.listener("billing")
    with service.api() as api:
        for status, held in (("enabled", False), ("disabled", True), ("enabled", False)):
            api.put(path, json={"status": status}).raise_for_status()
            for page in ("/jobs/replays", f"{path}/jobs"):
                shown = service.browser().get(page).text
                assert ('<span class="sub">The listener is disabled by a request.</span>' in shown) is (held and says)


@pytest.mark.parametrize(("counts", "says"), [({}, False), ({"failed": 1}, True), ({"retrying": 1}, True)])
def test_replay_shows_a_cause_only_for_failures_of_its_own(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch, counts: Any, *, says: bool
) -> None:
    _show_replay(service, shop, monkeypatch, "tax-report", state="done", **counts)
    for page in ("/jobs/replays", f"{shop.listener('tax-report')}/jobs"):
        [replays] = re.findall(
            r'aria-label="(?:List of r|R)eplays">(.+?)</table>', service.browser().get(page).text, re.DOTALL
        )
        assert ("422 Unprocessable" in replays) is says, page


@pytest.mark.parametrize(("state", "says"), [("done", True), ("running", False)])
def test_finished_redelivery_says_what_another_redelivery_had_taken(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch, state: Any, *, says: bool
) -> None:
    job = Redelivery(
        organization=1,
        id=1,
        public_id="0" * 21,
        listener=1,
        state=state,
        chosen=MissedSelection(),
        position=9,
        until_seq=9,
        selected=5,
        created_at=1,
        updated_at=1,
        redelivered=2,
        gone=1,
    )
    of = JobListener(shop.listeners["billing"], "billing", shop.queue)

    async def page(*_: object) -> Listing[object]:
        return Listing((job,), has_next=False, has_previous=False)

    async def page_of_all(*_: object) -> Listing[object]:
        return Listing(((job, of),), has_next=False, has_previous=False)

    monkeypatch.setattr(REDELIVERIES, "page", page)
    monkeypatch.setattr(REDELIVERIES, "page_of_all", page_of_all)
    for path in ("/jobs", f"{shop.listener('billing')}/jobs"):
        shown = service.browser().get(path).text
        assert ("2 were sent again already" in shown) is says, path
        assert ('aria-label="100 % done"' in shown) is says, path


@pytest.mark.parametrize(("listener", "fails"), [("billing", False), ("tax-report", True)])
def test_listener_page_has_its_success_rate_and_the_numbers_behind_the_chart(
    service: DashboardService, shop: Shop, listener: str, *, fails: bool
) -> None:
    page = service.browser().get(shop.listener(listener)).text
    shown = re.search(r"Success, past 24 hours</dt><dd>(.+?) <span class=\"soft\">of (\d+) attempts", page)
    [table] = re.findall(r'aria-label="Attempts in numbers">(.+?)</table>', page, re.DOTALL)
    cells = [int(each) for each in re.findall(r'<td class="r">(\d+)</td>', table)]
    acknowledged, failed = sum(cells[::2]), sum(cells[1::2])
    assert shown is not None
    assert shown.groups() == (percent(acknowledged, acknowledged + failed), str(acknowledged + failed))
    assert acknowledged > 10
    assert bool(failed) is fails


def test_rates_of_the_organization_and_of_a_listener_are_those_of_the_past_five_minutes(
    service: DashboardService, shop: Shop
) -> None:
    browser = service.browser()
    with service.api() as api:
        api.post("/queues", json={"alias": "counted"}).raise_for_status()
        fields = {"notify_url": "http://hooks.example.com:9001/counted"}
        made = api.post("/queues/counted/listeners", json=fields).json()["listener"]
        listener = f"/queues/{made['queue_id']}/listeners/{made['id']}"

        def rates() -> list[float]:
            found = (
                re.search(r"messages, past hour</span><span class=\"s\">([\d.]+) per minute now", browser.get("").text),
                re.search(r"Attempts now</dt><dd>([\d.]+) per minute", browser.get(listener).text),
            )
            return [float(each[1]) if each else -1.0 for each in found]

        before = rates()
        batch = {"messages": [{"data": {"order": 1, "total": 1}}] * 10}
        api.post("/queues/counted/messages/batch", json=batch).raise_for_status()
        service.settle()
        after = rates()
        assert (before[1], after[1]) == (0, 2)
        # Other tests have published, too; from 10 on, a rate is a whole number.
        assert after[0] - before[0] == pytest.approx(2, abs=1)
        api.delete(f"/queues/{made['queue_id']}").raise_for_status()

"""Actions on selected rows of lists, as forms without a script send them."""

import re

import httpx
import pytest

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService


def _picks(page: str) -> list[str]:
    return re.findall(r'name="(pick-[^"]+)"', page)


def _submit(browser: Browser, path: str, picks: list[str]) -> httpx.Response:
    """Select rows, confirm the preview, and return the response."""
    preview = browser.get(path, params=dict.fromkeys(picks, "on"))
    assert preview.status_code == 200, preview.text
    assert sorted(_picks(preview.text)) == sorted(picks)
    return browser.post(path, data=dict.fromkeys(_picks(preview.text), "on"), headers=SAME_ORIGIN)


def test_selected_messages_are_redelivered_to_the_listener_that_missed_them(
    service: DashboardService, shop: Shop
) -> None:
    browser, listener = service.browser(), shop.listener("tax-report")
    of_all, own = browser.get("/missed").text, browser.get(f"{listener}/missed").text
    picks = [each for each in _picks(own) if each in _picks(of_all)][:2]
    assert len(picks) == 2
    preview = browser.get("/missed/redeliver", params=dict.fromkeys(picks, "on")).text
    assert "Redeliver 2 messages" in preview
    assert "tax-report" in preview
    done = _submit(browser, "/missed/redeliver", picks)
    assert done.headers["location"].endswith("/jobs?done=selection_redelivering")
    with service.api() as api:
        newest = api.get(f"{listener}/redeliveries").json()["redeliveries"][0]
    assert newest["counts"]["selected"] == 2


def test_missed_messages_are_filtered_by_the_name_or_the_id_of_a_listener(
    service: DashboardService, shop: Shop
) -> None:
    browser = service.browser()
    by_name, by_id = (
        browser.get("/missed", params={"listener": each}).text for each in ("tax-report", shop.listeners["tax-report"])
    )
    assert _picks(by_name) == _picks(by_id) != []
    assert {each.split(".")[1] for each in _picks(by_name)} == {shop.listeners["tax-report"]}
    assert f"Select all {len(_picks(by_name))} on this page" in by_name
    quiet = browser.get("/missed", params={"listener": "billing", "reason": "too_old"}).text
    assert "No missed message matches" in quiet


def test_name_of_no_or_several_listeners_is_refused_at_the_field(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    with service.api() as api:
        for queue in ("twins-one", "twins-two"):
            made = api.post("/queues", json={"alias": queue}).json()["queue"]["id"]
            api.post(
                f"/queues/{made}/listeners", json={"alias": "twin", "notify_url": "http://hooks.example.com:9001/"}
            )
    for given, rule in (
        ("nobody", "is not the name or id of a listener"),
        ("0" * 21, "must be the id of a listener"),
        ("twin", "is the name of several listeners: give the id of one"),
    ):
        answer = browser.get("/missed", params={"listener": given})
        assert "Nothing was saved" not in answer.text
        assert f'<p class="fault" id="listener-fault">It {rule}.</p>' in answer.text
        assert f'value="{given}" aria-invalid="true"' in answer.text
        assert _picks(answer.text) == []


def test_failure_of_one_listener_does_not_keep_the_others_from_it(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    [missed, *_] = _picks(browser.get(f"{shop.listener('tax-report')}/missed").text)
    # That listener has received all that was published.
    never = f"pick-{shop.queue}.{shop.listeners['billing']}.{shop.blocked}"
    page = browser.post("/missed/redeliver", data={missed: "on", never: "on"}, headers=SAME_ORIGIN)
    assert page.status_code == 200
    assert "Not everything was redelivered." in page.text
    [done] = re.findall(r">tax-report</a></td>\s*<td>(.+?)</td>", page.text, re.DOTALL)
    [failed] = re.findall(r">billing</a></td>\s*<td>(.+?)</td>", page.text, re.DOTALL)
    assert "redelivered" in done
    assert "A selected message was deleted, or was not missed." in failed


def test_selected_listeners_are_disabled_and_enabled(service: DashboardService, shop: Shop) -> None:
    browser, names = service.browser(), ("billing", "newsletter")
    shown = {*_picks(browser.get("/listeners").text), *_picks(browser.get(f"/queues/{shop.queue}/listeners").text)}
    picks = [f"pick-{shop.queue}.{shop.listeners[name]}" for name in names]
    assert shown.issuperset(picks)
    with service.api() as api:
        for action, notice, status in (("disable", "disabled", "disabled"), ("enable", "enabled", "enabled")):
            done = _submit(browser, f"/listeners/{action}", picks)
            assert done.headers["location"].endswith(f"/listeners?done=selection_{notice}")
            assert [api.get(shop.listener(name)).json()["listener"]["status"] for name in names] == [status] * 2


def test_form_without_a_selection_says_how_to_select(service: DashboardService) -> None:
    browser = service.browser()
    for path in ("/missed/redeliver", "/listeners/disable", "/listeners/enable"):
        assert "Nothing is selected" in browser.get(path).text
        assert browser.post(path, headers=SAME_ORIGIN).status_code == 303


@pytest.mark.parametrize(
    "picks",
    [
        ["pick-"],
        ["pick-../../x.y.z"],
        ["pick-0VbuHmjd00lAZtxyVjkDR.0VbuHmjd00lAZtxyVjkDR"],
        ["pick-0VbuHmjd00lAZtxyVjkDR.0VbuHmjd00lAZtxyVjkDR.0VbuHmjd00lAZtxyVjkDR.0VbuHmjd00lAZtxyVjkDR"],
    ],
)
def test_row_that_no_list_has_is_refused(service: DashboardService, picks: list[str]) -> None:
    refused = service.browser().get("/missed/redeliver", params=dict.fromkeys(picks, "on"))
    assert refused.status_code == 422
    assert "The selection has a row that is not in the list." in refused.text


def test_selection_has_the_rows_of_one_page_at_most(service: DashboardService, shop: Shop) -> None:
    own = f"{shop.queue}.{shop.listeners['tax-report']}"
    picks = {f"pick-{own}.0VbuHmjd00lAZtxyVj{number:03}": "on" for number in range(26)}
    refused = service.browser().post("/missed/redeliver", data=picks, headers=SAME_ORIGIN)
    assert (refused.status_code, "more than the 25 rows of a page" in refused.text) == (422, True)


def test_selection_needs_the_scope_and_its_organization(service: DashboardService, shop: Shop) -> None:
    viewer, stranger = service.browser("viewer"), service.foreign_browser()
    assert _picks(viewer.get("/listeners").text + viewer.get("/missed").text) == []
    form = {f"pick-{shop.queue}.{shop.listeners['billing']}": "on"}
    assert viewer.post("/listeners/disable", data=form, headers=SAME_ORIGIN).status_code == 403
    refused = stranger.post("/listeners/disable", data=form, headers=SAME_ORIGIN)
    assert (refused.status_code, "billing" in refused.text) == (404, False)
    with service.api() as api:
        assert api.get(shop.listener("billing")).json()["listener"]["status"] == "enabled"

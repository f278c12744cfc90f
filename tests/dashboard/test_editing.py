"""Forms that create, change and delete schedules, topics and channels."""

import html
import re
from collections.abc import Mapping

import pytest

from tests.support.dashboard_editor import Editor
from tests.support.dashboards import SAME_ORIGIN, DashboardService

_CHANGED = "This was changed after you opened the page."


def _schedule(editor: Editor, raw: str = '{"cron": "@daily", "data": {"order": 1}}') -> str:
    """Create a schedule of a queue without a schema, and return its path."""
    path = f"/queues/{editor.shop.blocked_queue}/schedules"
    answer = editor.api.post(path, content=raw, headers={"content-type": "application/json"}).raise_for_status()
    return f"{path}/{answer.json()['schedule']['id']}"


def test_schedule_is_created_disabled_enabled_and_deleted(editor: Editor) -> None:
    given = {
        "queue_id": "orders",
        "alias": "weekly",
        "cron": "0 9 * * MON",
        "time_zone": "Europe/Zurich",
        "data": '{"order": 7}',
        "as": "json",
        "key": "reports",
        "missed_runs": "catch_up",
        "catch_up_limit": "3",
        "ends_at": "2090-01-01T00:00",
        "expires_in": "60",
    }
    path = editor.done("/schedules/new", **given)
    stored = editor.stored(path)
    assert {name: stored[name] for name in ("name", "cron", "time_zone", "data", "key", "expires_in")} == {
        "name": "weekly",
        "cron": "0 9 * * MON",
        "time_zone": "Europe/Zurich",
        "data": {"order": 7},
        "key": "reports",
        "expires_in": 60,
    }
    assert (stored["missed_runs"], stored["catch_up_limit"]) == ("catch_up", 3)
    assert stored["ends_at"] == 3_786_912_000_000
    page = editor.browser.get(path).text
    assert page.count("<tr><td>") == 5
    assert "<th>In Europe/Zurich</th><th>In UTC</th>" in page
    assert re.search(r"<td>Mon, \d\d \w+ \d{4}, 09:00</td><td>Mon, [^<]+, 0[78]:00</td>", page)
    editor.done(path, action="disable")
    assert editor.stored(path)["status"] == "disabled"
    assert "It publishes nothing until it is enabled." in editor.browser.get(path).text
    editor.done(path, action="enable")
    assert editor.stored(path)["status"] == "enabled"
    assert editor.post(path, action="explode").status_code == 422
    preview = editor.browser.get(f"{path}/delete").text
    assert "Its next run," in preview
    assert editor.done(f"{path}/delete", version=editor.version(f"{path}/delete")) == "/schedules"
    assert editor.browser.get(path).status_code == 404


def test_edit_leaves_fields_that_were_not_touched_exactly_as_they_are(editor: Editor) -> None:
    # As its page would not write them: with spaces in the data, a millisecond in a time, and fields that no form has.
    start = editor.api.get(f"/queues/{editor.shop.queue}").json()["queue"]["created_at"] // 1_000 * 1_000 + 86_400_123
    kept = {"starts_at": start, "headers": {"x-a": "b"}, "retry": {"attempts": 2}}
    raw = f'{{"cron": "@daily", "data":  {{\n "order": 1}}, "starts_at": {start}, "headers": {{"x-a": "b"}}, '
    path = _schedule(editor, raw + '"retry": {"attempts": 2}}')
    page = editor.browser.get(f"{path}/edit").text
    form = {
        name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" type="[^"]+" value="([^"]*)"', page)
    }
    form |= {"data": '{\r\n "order": 1}', "as": "json", "version": editor.version(f"{path}/edit")}
    assert form["starts_at"]
    editor.done(f"{path}/edit", **form | {"alias": "renamed", "cron": "@hourly"})
    stored = editor.stored(path)
    assert (stored["name"], stored["cron"]) == ("renamed", "@hourly")
    assert {name: stored[name] for name in kept} == kept
    assert '"data":{\n "order": 1}' in editor.api.get(path).text
    editor.api.delete(path).raise_for_status()


def test_binary_data_of_a_schedule_survives_its_form(editor: Editor) -> None:
    path = _schedule(editor, '{"cron": "@daily", "data_base64": "AAH/"}')
    page = editor.browser.get(f"{path}/edit").text
    assert "The data is binary" in page
    assert 'name="data"' not in page
    editor.done(f"{path}/edit", version=editor.version(f"{path}/edit"), cron="@weekly")
    assert editor.stored(path)["data_base64"] == "AAH/"
    editor.api.delete(path).raise_for_status()


def test_stored_name_is_not_replaced_by_an_empty_one(editor: Editor) -> None:
    topic = f"/topics/{editor.shop.topic}"
    schedule = f"/queues/{editor.shop.queue}/schedules/{editor.shop.schedule}/edit"
    for path in (schedule, f"{topic}/edit", f"{topic}/channels/{editor.shop.channel}"):
        refused = editor.post(path, version=editor.version(path), alias=" ")
        assert (refused.status_code, "It must not be empty." in refused.text) == (422, True), path


def test_text_of_a_schedule_keeps_its_line_breaks(editor: Editor) -> None:
    path = _schedule(editor, '{"cron": "@daily", "data": "a\\n b"}')
    form = {"version": editor.version(f"{path}/edit"), "as": "text"}
    editor.done(f"{path}/edit", **form, data="a\r\n b\r\nc ")
    assert editor.stored(path)["data"] == "a\n b\nc "
    # Text that is JSON, too, becomes JSON when it is sent as such.
    editor.done(f"{path}/edit", version=editor.version(f"{path}/edit"), **{"as": "json", "data": '["c"]'})
    assert editor.stored(path)["data"] == ["c"]
    editor.api.delete(path).raise_for_status()


def test_change_by_others_is_not_overwritten(editor: Editor) -> None:
    path = _schedule(editor)
    opened = editor.version(f"{path}/edit")
    editor.api.put(path, json={"cron": "@monthly"}).raise_for_status()
    form = {"alias": "mine", "cron": "@weekly", "time_zone": "UTC"}
    refused = editor.post(f"{path}/edit", **form, version=opened)
    assert refused.status_code == 412
    assert _CHANGED in refused.text
    assert "<dt>When</dt><dd>@monthly</dd>" in refused.text
    assert 'value="@weekly"' in refused.text
    for stale in ({"version": ""}, {}):
        assert editor.post(f"{path}/edit", **form, **stale).status_code == 412
    assert editor.stored(path)["cron"] == "@monthly"
    # The page that says so has the version of what it shows: saving again is a choice.
    found = re.search(r'name="version" value="([^"]+)"', refused.text)
    assert found is not None
    editor.done(f"{path}/edit", **form, version=found[1])
    assert editor.stored(path)["cron"] == "@weekly"
    refused = editor.post(f"{path}/delete", version=opened)
    assert (refused.status_code, _CHANGED in refused.text) == (412, True)
    editor.done(f"{path}/delete", version=editor.version(f"{path}/delete"))


@pytest.mark.parametrize(
    ("typed", "field", "told"),
    [
        ({"queue_id": "no-such-queue"}, "queue_id", "It must be the name or id of a queue."),
        ({"queue_id": ""}, "queue_id", "It must be the name or id of a queue."),
        ({"queue_id": "0VbuHmjd00lAZtxyVjkDR"}, "queue_id", "It must be the name or id of a queue."),
        ({"alias": "a b"}, "alias", "It must be 1 to 64 characters"),
        ({"alias": "nightly"}, "alias", "It is taken."),
        ({"cron": "whenever"}, "cron", "It must have five fields"),
        ({"cron": ""}, "cron", "It must have five fields"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "It must be an IANA time zone"),
        ({"data": "{broken"}, "data", "must be JSON"),
        ({"data": '{"order": "many"}'}, "data", "<code>/order</code>"),
        ({"key": "k" * 256}, "key", "It must have 1 to 255 characters."),
        ({"catch_up_limit": "0"}, "catch_up_limit", "It must be a number from 1 to 100."),
        ({"expires_in": "soon"}, "expires_in", "It must be a number from 1"),
        ({"starts_at": "tomorrow"}, "starts_at", "It must be a time such as"),
        ({"ends_at": "2001-01-01T00:00"}, "ends_at", "It leaves no future run: choose a later time."),
    ],
)
def test_fault_of_a_schedule_is_next_to_its_field(
    editor: Editor, typed: Mapping[str, str], field: str, told: str
) -> None:
    form = {"queue_id": "orders", "alias": "", "cron": "@daily", "data": '{"order": 1}', "as": "json", **typed}
    refused = editor.post("/schedules/new", **form)
    assert refused.status_code in {400, 422}
    fault = re.search(rf'id="{field}-fault">(.+?)</(?:p|div)>', refused.text, re.DOTALL)
    assert fault is not None, refused.text
    assert told in fault[1]
    assert f'aria-describedby="{field}-fault"' in refused.text
    [(name, value)] = typed.items()
    assert html.escape(value).replace("&quot;", "&#34;") in refused.text, name


def test_topic_and_channel_are_created_changed_and_deleted(editor: Editor) -> None:
    path = editor.done("/topics/new", alias="news")
    assert "No channels yet" in editor.browser.get(path).text
    given = {
        "queue_id": "orders",
        "alias": "paid",
        "pattern": "orders.*.paid",
        "filter": '{"data": {"total": {"$gte": 5}}}',
    }
    assert editor.done(f"{path}/channels/new", **given) == path
    [channel] = editor.stored(path)["channels"]
    own = f"{path}/channels/{channel['id']}"
    assert editor.stored(own)["filter"] == {"data": {"total": {"$gte": 5}}}
    assert own in editor.browser.get(path).text

    editor.done(own, version=editor.version(own), alias="paid", pattern="", filter="")
    assert not {"pattern", "filter"} & editor.stored(own).keys()

    stale = editor.version(own)
    editor.api.put(own, json={"pattern": "orders.>"}).raise_for_status()
    refused = editor.post(own, version=stale, pattern="returns.>")
    assert (refused.status_code, "<dt>Type pattern</dt><dd>orders.&gt;</dd>" in refused.text) == (412, True)
    assert editor.post(f"{own}/delete", version=stale).status_code == 412
    assert "orders gets no further messages of news" in editor.browser.get(f"{own}/delete").text
    editor.done(f"{own}/delete", version=editor.version(f"{own}/delete"))
    assert editor.stored(path)["channels"] == []

    stale = editor.version(f"{path}/edit")
    editor.done(f"{path}/edit", version=stale, alias="announcements")
    assert editor.stored(path)["name"] == "announcements"
    for form in (f"{path}/edit", f"{path}/delete"):
        assert editor.post(form, version=stale, alias="other").status_code == 412
    assert editor.done(f"{path}/delete", version=editor.version(f"{path}/delete")) == "/topics"
    assert editor.browser.get(path).status_code == 404


@pytest.mark.parametrize(
    ("typed", "field", "told"),
    [
        ({"queue_id": "orders"}, "queue_id", "It already has a channel of this topic"),
        ({"queue_id": "nowhere"}, "queue_id", "It must be the name or id of a queue."),
        ({"pattern": "orders..paid"}, "pattern", "It must"),
        ({"filter": "{broken"}, "filter", "must be JSON"),
        ({"filter": "5"}, "filter", "must"),
        ({"filter": '{"data": {"total": {"$atleast": 5}}}'}, "filter", "<code>/data/total"),
        ({"filter": '{"data":' * 200 + "1" + "}" * 200}, "filter", "is nested too deeply"),
        ({"alias": "orders"}, "alias", "It is taken."),
    ],
)
def test_fault_of_a_channel_is_next_to_its_field(
    editor: Editor, typed: Mapping[str, str], field: str, told: str
) -> None:
    refused = editor.post(f"/topics/{editor.shop.topic}/channels/new", **{"queue_id": "invoices", **typed})
    assert refused.status_code in {400, 409, 422}
    fault = re.search(rf'id="{field}-fault">(.+?)</(?:p|div)>', refused.text, re.DOTALL)
    assert fault is not None, refused.text
    assert told in fault[1]


def test_forms_of_schedules_and_topics_need_their_scopes_and_their_organization(
    service: DashboardService, editor: Editor
) -> None:
    schedule = f"/queues/{editor.shop.queue}/schedules/{editor.shop.schedule}"
    topic, channel = f"/topics/{editor.shop.topic}", f"/topics/{editor.shop.topic}/channels/{editor.shop.channel}"
    before = [editor.stored(each) for each in (schedule, topic, channel)]
    forms = [schedule, f"{schedule}/edit", f"{schedule}/delete", f"{topic}/edit", f"{topic}/delete", channel]
    viewer, stranger = service.browser("viewer"), service.foreign_browser()
    for path in [*forms, f"{channel}/delete", f"{topic}/channels/new"]:
        form = {"action": "disable", "alias": "taken-over", "queue_id": editor.shop.queue}
        if path not in (schedule, f"{topic}/channels/new"):
            form["version"] = editor.version(path)
        assert viewer.post(path, data=form, headers=SAME_ORIGIN).status_code == 403, path
        assert stranger.post(path, data=form, headers=SAME_ORIGIN).status_code in {404, 422}, path
    assert [editor.stored(each) for each in (schedule, topic, channel)] == before

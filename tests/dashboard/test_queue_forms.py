"""Forms that create and change queues."""

import json
from collections.abc import Mapping

import pytest

from discue.dashboard.fields import RETRY
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from tests.support.dashboard_editor import Editor
from tests.support.dashboards import SAME_ORIGIN, DashboardService

_RULES = '{\n  "order": {"type": "number",   "min": 1}\n}'


def test_queue_is_created_and_edited_with_all_of_its_settings(editor: Editor) -> None:
    given = {
        "alias": "refunds",
        "customer": "acme",
        "ordered": "on",
        "on_missed": "block",
        "retention": "86400",
        "max_message_bytes": "1000",
        "schema_language": "rules",
        "schema": _RULES,
        "retry/schedule": "10, 60 600",
        "retry/attempts": "3",
        "retry/jitter": "0.5",
        "retry/final_statuses": "422, 4XX",
    }
    path = editor.done("/queues/new", **given)
    stored = editor.stored(path)
    settings = {"name", "customer", "ordered", "on_missed", "retention", "max_message_bytes", "schema", "retry"}
    retry = {"schedule": [10, 60, 600], "attempts": 3, "jitter": 0.5, "final_statuses": [422, "4xx"]}
    assert {name: stored[name] for name in settings} == {
        "name": "refunds",
        "customer": "acme",
        "ordered": True,
        "on_missed": "block",
        "retention": 86_400,
        "max_message_bytes": 1_000,
        "schema": json.loads(_RULES),
        "retry": retry,
    }
    assert "all for the customer acme." in editor.browser.get(path).text
    assert "<dt>Customer</dt><dd>acme</dd>" in editor.browser.get(f"{path}/settings").text
    assert "customer" not in editor.form(f"{path}/edit")
    version = editor.version(f"{path}/edit")
    assert editor.done(f"{path}/edit", version=version, alias="paid-back", **{"retry/schedule": "none"}) == (
        f"{path}/settings"
    )
    changed = editor.stored(path)
    assert (changed["name"], changed["retry"]) == ("paid-back", retry | {"schedule": []})

    emptied = dict.fromkeys(("retention", "max_message_bytes", "schema", *(name for name in given if "/" in name)), "")
    editor.done(f"{path}/edit", version=editor.version(f"{path}/edit"), **emptied)
    assert not {"retention", "max_message_bytes", "schema", "retry"} & editor.stored(path).keys()
    editor.api.delete(path).raise_for_status()


def test_fields_of_a_queue_that_were_not_touched_stay_as_they_are(editor: Editor) -> None:
    path = "/queues/as-it-was"
    raw = f'{{"schema": {_RULES}, "retention": 0, "retry": {{"attempts": 2}}}}'
    editor.api.put(path, content=raw, headers={"content-type": "application/json"}).raise_for_status()
    path = f"/queues/{editor.stored(path)['id']}"
    form = editor.form(f"{path}/edit")
    assert (form["retention"], form["retry/attempts"], form["schema_language"]) == ("0", "2", "rules")
    editor.done(f"{path}/edit", **form | {"alias": "renamed"})
    assert f'"schema":{_RULES}' in editor.api.get(path).text
    assert {name: editor.stored(path)[name] for name in ("retention", "retry")} == {
        "retention": 0,
        "retry": {"attempts": 2},
    }
    # Its language alone is a change of the schema, too.
    editor.done(f"{path}/edit", **editor.form(f"{path}/edit") | {"schema_language": "json_schema"})
    assert editor.stored(path)["json_schema"] == json.loads(_RULES)
    editor.api.delete(path).raise_for_status()


def test_change_of_a_queue_by_others_is_not_overwritten(editor: Editor) -> None:
    path = f"/queues/{editor.shop.blocked_queue}"
    opened = editor.form(f"{path}/edit")
    editor.api.put(path, json={"retention": 60}).raise_for_status()
    refused = editor.post(f"{path}/edit", **opened | {"retention": "120"})
    assert refused.status_code == 412
    assert "<dt>Retention, in seconds</dt><dd>60</dd>" in refused.text
    assert 'value="120"' in refused.text
    assert editor.stored(path)["retention"] == 60
    editor.api.put(path, json={"retention": None}).raise_for_status()


@pytest.mark.parametrize(
    ("typed", "field", "told"),
    [
        ({"alias": "a b"}, "alias", "It must be 1 to 64 characters"),
        ({"alias": "orders"}, "alias", "It is taken."),
        ({"retention": "a week"}, "retention", "It must be a number from 0 to"),
        ({"max_message_bytes": "0"}, "max_message_bytes", "It must be a number from 1 to 8388608."),
        ({"on_missed": "block"}, "on_missed", "It can be block only in an ordered queue"),
        ({"schema": "{broken"}, "schema", "must be JSON"),
        ({"schema": '{"type": "number", "minimum": "x"}'}, "schema", "<code>/minimum</code>"),
        ({"schema": "{}", "schema_language": "xml"}, "schema_language", "It must be one of"),
        ({"retry/schedule": "10, soon"}, "retry/schedule", "It must be numbers of seconds, separated by commas."),
        ({"retry/schedule": "10, 0"}, "retry/schedule", "<code>/1</code> must be from 1 to 2592000 seconds."),
        ({"retry/attempts": "101"}, "retry/attempts", "It must be a number from 1 to 100."),
        ({"retry/jitter": "a bit"}, "retry/jitter", "It must be a number."),
        ({"retry/jitter": "nan"}, "retry/jitter", "It must be from 0 to 1."),
        ({"retry/final_statuses": "422, 700"}, "retry/final_statuses", "<code>/1</code> must be a status from 300"),
    ],
)
def test_fault_of_a_queue_is_next_to_its_field(editor: Editor, typed: Mapping[str, str], field: str, told: str) -> None:
    form = {"alias": "not-created", "retention": "77", **typed}
    refused = editor.post("/queues/new", **form)
    assert refused.status_code in {400, 422}
    assert told in editor.fault(refused, field)
    # A list has no item for what it does not offer.
    shown = editor.shown(refused) | {name: text for name, text in typed.items() if name == "schema_language"}
    assert {name: shown[name] for name in form} == form


def test_queue_of_system_events_has_few_settings(editor: Editor) -> None:
    [queue] = editor.api.get("/queues", params={"alias": SYSTEM_QUEUE_ALIAS}).json()["queues"]
    path = f"/queues/{queue['id']}"
    assert "Delete the queue" not in editor.browser.get(f"{path}/settings").text
    form = editor.form(f"{path}/edit")
    assert form.keys() == {"version", "retention", *RETRY}
    editor.done(f"{path}/edit", **form | {"retention": "172800", "alias": "mine", "schema": "true"})
    changed = editor.stored(path)
    assert (changed["retention"], changed["name"], "json_schema" in changed) == (172_800, SYSTEM_QUEUE_ALIAS, False)
    editor.api.put(path, json={"retention": None}).raise_for_status()


def test_forms_of_queues_need_their_scope_and_their_organization(service: DashboardService, editor: Editor) -> None:
    path = f"/queues/{editor.shop.queue}"
    form = editor.form(f"{path}/edit") | {"retention": "1"}
    assert f"{path}/edit" in editor.browser.get(f"{path}/settings").text
    viewer = service.browser("viewer")
    assert f"{path}/edit" not in viewer.get(f"{path}/settings").text
    for each in (f"{path}/edit", "/queues/new"):
        assert viewer.post(each, data=form, headers=SAME_ORIGIN).status_code == 403
    assert service.foreign_browser().post(f"{path}/edit", data=form, headers=SAME_ORIGIN).status_code == 404
    assert "retention" not in editor.stored(path)

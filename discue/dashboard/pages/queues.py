"""Queues: their list, their schemas, and the log, the listeners, the settings and the publish form of one queue."""

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from discue.control import event_types, listeners, messages, queues
from discue.control.queues import QueueSummary
from discue.dashboard.fields import DATA_FORM_BYTES, indented, instant_of, key_of, number_of, value_of
from discue.dashboard.formats import PREVIEW_BYTES
from discue.dashboard.json_example import NoExample, accepted_example
from discue.dashboard.listing import NO_ROWS, STATES, id_given, names_offered, noting_faults, selection_of, shown
from discue.dashboard.pages.listeners import rows_of
from discue.dashboard.pages.message import message_of
from discue.dashboard.pages.queue_forms import LANGUAGES, default_retention
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route
from discue.domain.aliases import check_alias
from discue.domain.event_types import checked_type
from discue.domain.message_data import data_of, is_json
from discue.domain.messages import MessageOptions
from discue.domain.model import Queue
from discue.domain.retry import effective_policy
from discue.publishing.publish import NewMessage, publish

_LISTENERS: Final = 20
"""The largest number of listeners of a queue that are counted."""


async def show_list(visit: Visit) -> Page:
    selection = selection_of(visit, "alias")
    found = await queues.page(visit.control, visit.principal, selection, shown_listeners=_LISTENERS)
    page = shown(visit, found, [each.queue.public_id for each in found.items], "alias")
    listed = [each.queue for each in found.items]
    values = {
        "list": page,
        "counted": _LISTENERS,
        "backlogs": await queues.backlogs(visit.control, visit.principal, listed, _LISTENERS),
        "offered": await names_offered(visit, "queue", page),
    }
    return Page("queues.html", "Queues", values, is_live=True)


async def show_schemas(visit: Visit) -> Page:
    visit.principal.require("schemas", "read")
    found = await queues.page(visit.control, visit.principal, selection_of(visit, "alias"), shown_listeners=0)
    page = shown(visit, found, [each.queue.public_id for each in found.items], "alias")
    return Page("schemas.html", "Schemas", {"list": page, "languages": LANGUAGES})


_SAMPLE: Final = '{\n  "hello": "world"\n}'


async def example_of(visit: Visit, queue: Queue) -> str:
    checker = (await visit.control.cache.queue(visit.principal.organization, queue.public_id)).checker
    if queue.schema is None or checker is None:
        return _SAMPLE
    try:
        body = accepted_example(queue.schema, queue.schema_language, checker, time.perf_counter)
    except NoExample:
        return ""
    return indented(body.decode())


_DELAYS: Final = range(31_536_001)
_FILTERS: Final = ("id", "alias", "key", "state", "since")


async def show(visit: Visit) -> Page | Redirect:
    """Show the log, the newest message first."""
    with noting_faults(visit):
        if wanted := id_given(visit, "id"):
            return Redirect(f"/queues/{visit.ids[0]}/messages/{wanted}")
    details = await _queue(visit)
    selection = selection_of(visit, "alias", "key", "state")
    with noting_faults(visit):
        if since := visit.query.get("since", "").strip():
            selection = msgspec.structs.replace(selection, created_after=instant_of(since, "/since"))
    found = NO_ROWS
    with noting_faults(visit):
        if not visit.wrong:
            found = await messages.page_of_queue(visit.control, visit.principal, details.queue, selection)
    page = shown(visit, found, [each.id for each in found.items], *_FILTERS)
    filters = {name: visit.query.get(name, "") for name in _FILTERS}
    is_filtered = any(filters.values())
    values = {"details": details, "list": page, "filters": filters, "is_filtered": is_filtered, "states": STATES}
    values["glances"] = await messages.glances(visit.control, visit.principal, found.items, PREVIEW_BYTES)
    return Page("queue.html", details.queue.alias, values, is_live=True)


async def show_listeners(visit: Visit) -> Page:
    details = await _queue(visit)
    selection = selection_of(visit)
    found = await listeners.page_of_queue(visit.control, visit.principal, details.queue, selection, with_missed=False)
    page = shown(visit, found, [each.listener.public_id for each in found.items])
    rows = await rows_of(visit, found.items)
    return Page(
        "queue_listeners.html", details.queue.alias, {"details": details, "list": page, "rows": rows}, is_live=True
    )


async def show_settings(visit: Visit) -> Page:
    details = await _queue(visit)
    queue = details.queue
    values = {
        "details": details,
        "retention": default_retention(visit) if queue.retention_seconds is None else queue.retention_seconds,
        "max_bytes": queue.max_message_bytes or visit.control.settings.max_message_bytes,
        "policy": effective_policy(visit.default_retry, queue.retry),
        "schema": None if queue.schema is None else indented(queue.schema),
        "languages": LANGUAGES,
    }
    return Page("queue_settings.html", details.queue.alias, values)


async def show_publish(visit: Visit) -> Page:
    details = await _queue(visit)
    form = visit.form or await _prefilled(visit, details.queue)
    values = {"details": details, "form": form, "types": await event_types.names(visit.control, visit.principal)}
    return Page("queue_publish.html", f"Publish · {details.queue.alias}", values)


async def _prefilled(visit: Visit, queue: Queue) -> Mapping[str, str]:
    """Return the form with an example that the queue's schema accepts, or with the message to copy."""
    copied = ""
    with noting_faults(visit):
        copied = id_given(visit, "copy")
    if not copied:
        return {"data": await example_of(visit, queue), "as": "json"}
    message = await message_of(visit, copied)
    return {
        "data": (message.body or b"").decode(errors="replace"),
        "as": "json" if is_json(message.codec) else "text",
        "type": message.options.type or "",
        "key": message.options.key or "",
    }


async def act_publish(visit: Visit) -> Redirect:
    """Publish what the form has. The queue's schema decides as it does for the API."""
    # As in the API: under overload, refusing must be cheap.
    visit.control.store.check_capacity(visit.principal.organization)
    record = await visit.control.cache.queue(visit.principal.organization, visit.ids[0])
    form = visit.form
    name = form.get("alias", "").strip()
    if name:
        check_alias(name)
    key, delay = key_of(form.get("key", "")), number_of(form.get("delay", ""), "delay", _DELAYS)
    data, codec = data_of(value_of(form.get("data", ""), form.get("as", "json")))
    event_type = checked_type(form.get("type", "").strip() or None, ())
    options = MessageOptions(key=key, type=event_type, deliver_at=visit.now + delay * 1_000 if delay else None)
    message = NewMessage(data, codec, name or None, options=None if options == MessageOptions() else options)
    (entry,) = await publish(visit.services.publisher, record, (message,))
    return Redirect(f"/queues/{visit.ids[0]}/messages/{entry.id}", "published")


async def _queue(visit: Visit) -> QueueSummary:
    return await queues.summary(visit.control, visit.principal, visit.ids[0])


_QUEUE: Final = "/queues/{id}"

ROUTES: Final = (
    PageRoute("/queues", show_list, needs="queues"),
    PageRoute("/schemas", show_schemas, needs="queues"),
    PageRoute(_QUEUE, show, needs="messages"),
    PageRoute(f"{_QUEUE}/listeners", show_listeners, needs="listeners"),
    form_route(f"{_QUEUE}/publish", show_publish, act_publish, "queues", writes="messages", form_bytes=DATA_FORM_BYTES),
    PageRoute(f"{_QUEUE}/settings", show_settings, needs="queues"),
)

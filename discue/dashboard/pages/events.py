"""The audit log: who changed what, in the past 24 hours, or after another time."""

from collections.abc import Collection
from typing import Final

import msgspec

from discue.control import usage
from discue.control.usage import EventNames
from discue.dashboard.fields import instant_of
from discue.dashboard.listing import NO_ROWS, noting_faults, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Visit
from discue.store.events import UsageEvent
from discue.store.pagination import Listing

_EVENTS: Final = 50
_STATUSES: Final = frozenset({"disabled", "enabled", "suspended", "unverified", "verified"})
"""Changes that the sentence about an event names."""
_LISTS: Final = {"queue": "queues", "topic": "topics", "domain": "domains", "api_key": "keys", "user": "users"}
"""The list with the page of a resource, by the kind of the resource."""


async def show(visit: Visit) -> Page:
    selection = selection_of(visit, per_page=_EVENTS)
    if since := visit.query.get("since", "").strip():
        with noting_faults(visit):
            selection = msgspec.structs.replace(selection, created_after=instant_of(since, "/since"))
    found: Listing[UsageEvent] = NO_ROWS
    if not visit.wrong:
        found = await usage.list_of_events(visit.control, visit.principal, selection, has_messages=False)
    names = await usage.names_of(visit.control, visit.principal, found.items)
    deleted = {each.ref for each in found.items if each.type.endswith("_deleted")}
    values = {
        "list": shown(visit, found, [each.id for each in found.items], "since"),
        "since": since,
        "kept_ms": visit.control.settings.event_retention_seconds * 1_000,
        "names": names,
        "paths": {each.id: _path(each, names, deleted) for each in found.items},
        "sentences": {each.id: _sentence(each) for each in found.items},
    }
    return Page("events.html", "Events", values)


def _sentence(event: UsageEvent) -> tuple[str, str]:
    """Return what happened, and the names of the settings that have changed with it."""
    what = event.type.replace("_", " ").capitalize().replace("Api ", "API ")
    for status in _STATUSES & set(event.changes):
        what = what.replace("updated", status)
    others = [each.replace("_", " ").replace("url", "URL") for each in event.changes if each not in _STATUSES]
    return what, ", ".join(others)


def _path(event: UsageEvent, names: EventNames, deleted: Collection[str]) -> str:
    """Return the path of the page of what was changed; "" if it has none, or was deleted."""
    if event.ref in deleted:
        return ""
    if event.subject == "listener":
        queue = names.queues.get(event.ref)
        return f"/queues/{queue}/listeners/{event.ref}" if queue else ""
    return f"/{_LISTS[event.subject]}/{event.ref}" if event.ref and event.subject in _LISTS else ""


ROUTES: Final = (PageRoute("/events", show, needs="events"),)

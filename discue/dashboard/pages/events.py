"""The audit log: changes of the past 24 hours, or those that match the filters, and their export as CSV."""

import csv
from collections.abc import Collection
from io import StringIO
from typing import Final
from urllib.parse import urlencode

from msgspec.structs import replace

from discue.control import usage
from discue.control.usage import EventNames
from discue.dashboard.listing import NO_ROWS, between, noting_faults, selection_of, shown
from discue.dashboard.visit import Download, Page, PageRoute, Visit
from discue.domain.clock import rfc3339
from discue.domain.errors import invalid
from discue.domain.ids import is_public_id
from discue.domain.reservations import ReadBound
from discue.store import aliases, users
from discue.store.engine import Transaction
from discue.store.events import UsageEvent
from discue.store.pagination import Listing, Selection

_EVENTS: Final = 50
MOST_EXPORTED: Final = 10_000
"""Maximum number of events in an export, which contains the newest ones."""
_EXPORTED_AT_ONCE: Final = 500
_EXPORT_BYTES: Final = 8_388_608
_COLUMNS: Final = ("time", "event", "changed", "resource", "id", "name", "by", "by_id")
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of cells that spreadsheets compute as formulas."""
_FILTERS: Final = ("kind", "by", "since", "until")
_STATUSES: Final = frozenset({"disabled", "enabled", "suspended", "unverified", "verified"})
"""Changes that the sentence about an event names."""
_LISTS: Final = {"queue": "queues", "topic": "topics", "domain": "domains", "api_key": "keys", "user": "users"}
"""The list with the page of a resource, by the kind of the resource."""
_KINDS: Final = {
    "queue": "queues",
    "listener": "listeners",
    "topic": "topics",
    "channel": "channels",
    "source": "sources",
    "event_type": "event types",
    "erasure": "erasures",
    "domain": "domains",
    "api_key": "API keys",
    "user": "users",
    "session": "sign-ins",
    "second_factor": "second factors",
    "lockout": "lockouts",
    "portal_session": "portal sessions",
    "organization": "organizations",
}
"""The names that pages show for subjects of events."""


async def show(visit: Visit) -> Page:
    selection, author = await _selected(visit, _EVENTS)
    found: Listing[UsageEvent] = NO_ROWS
    if not visit.wrong:
        found = await _read(visit, selection, author)
    names = await usage.names_of(visit.control, visit.principal, found.items)
    deleted = {each.ref for each in found.items if each.type.endswith("_deleted")}
    filters = {name: visit.query.get(name, "").strip() for name in _FILTERS}
    values = {
        "list": shown(visit, found, [each.id for each in found.items], *_FILTERS),
        "filters": filters,
        "kinds": _KINDS,
        "kept_ms": visit.control.settings.event_retention_seconds * 1_000,
        "export": urlencode({name: value for name, value in filters.items() if value}),
        "most_exported": MOST_EXPORTED,
        "names": names,
        "paths": {each.id: _path(each, names, deleted) for each in found.items},
        "sentences": {each.id: _sentence(each) for each in found.items},
    }
    return Page("events.html", "Events", values)


async def export(visit: Visit) -> Download:
    """Return the newest selected events as CSV. The file name tells whether there are more."""
    selection, author = await _selected(visit, _EXPORTED_AT_ONCE)
    if visit.wrong:
        raise visit.wrong[0]
    if visit.reservation is not None:
        await visit.reservation.enlarge(ReadBound(MOST_EXPORTED, _EXPORT_BYTES))
    text, count, has_more = StringIO(), 0, True
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for _ in range(MOST_EXPORTED // _EXPORTED_AT_ONCE):
        found = await _read(visit, selection, author)
        names = await usage.names_of(visit.control, visit.principal, found.items)
        writer.writerows([_cell(value) for value in _row(each, names)] for each in found.items)
        count, has_more = count + len(found.items), found.has_next
        if not has_more:
            break
        selection = replace(selection, after=found.resumes_after or found.items[-1].id)
    return Download(text.getvalue().encode(), f"events-newest-{count}.csv" if has_more else "events.csv")


async def _selected(visit: Visit, per_page: int) -> tuple[Selection, str]:
    """Return the selection of the query, and the id of the author; "" for all. Notes faults in `visit.wrong`."""
    given = {name: visit.query[name].strip() for name in _FILTERS if visit.query.get(name, "").strip()}
    selection, author = replace(selection_of(visit, per_page=per_page), topic=given.get("kind", "all")), ""
    with noting_faults(visit):
        if selection.topic not in ("all", *_KINDS):
            raise invalid("/kind", f"must be one of {', '.join(_KINDS)}")
    with noting_faults(visit):
        author = await _author(visit, given["by"]) if "by" in given else ""
    # Without filters, the list ends after a day. With filters, it may contain older events.
    return between(visit, replace(selection, created_after=0 if given else None)), author


async def _author(visit: Visit, given: str) -> str:
    """Return the id of the user or API key with this id, email or name. Raises Unprocessable if there is none."""
    own, may = visit.principal.organization, visit.principal.may

    async def work(tx: Transaction) -> str:
        user = await users.by_email(tx, own, given) if may("users", "read") else None
        key = await aliases.find(tx, "api_key", own, given) if user is None and may("api_keys", "read") else None
        return user.public_id if user is not None else key.public_id if key is not None else ""

    author = given if is_public_id(given) else await visit.control.store.read(work)
    if not author:
        raise invalid("/by", "must be the email of a user, the name of an API key, or an id")
    return author


async def _read(visit: Visit, selection: Selection, author: str) -> Listing[UsageEvent]:
    return await usage.list_of_events(visit.control, visit.principal, selection, has_messages=False, author=author)


def _row(event: UsageEvent, names: EventNames) -> tuple[str, ...]:
    """Return the values of `_COLUMNS`."""
    by = names.users.get(event.user) or names.keys.get(event.client, "")
    what = (rfc3339(event.stored_at), event.type, " ".join(event.changes))
    return (*what, event.subject, event.ref, event.name, by, event.user or event.client)


def _cell(text: str) -> str:
    """Return the text of a cell. A leading apostrophe keeps spreadsheets from computing tenants' texts as formulas."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


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
    if event.subject == "erasure":
        return f"/queues/{event.ref}/erasures"
    return f"/{_LISTS[event.subject]}/{event.ref}" if event.ref and event.subject in _LISTS else ""


ROUTES: Final = (
    PageRoute("/events", show, needs="events"),
    PageRoute("/events/export", export, needs="events"),
)

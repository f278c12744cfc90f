"""The catalogue of event types: the list, and forms that change it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from discue.control import event_types
from discue.control.event_types import EventTypeFields
from discue.dashboard.fields import DATA_FORM_BYTES, Edit, indented, matching, touched, value_of
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route
from discue.domain.model import EventType

_NEW: Final[Mapping[str, str]] = {"type": "", "description": "", "status": "enabled", "json_schema": "", "example": ""}


async def show(visit: Visit) -> Page:
    found = await event_types.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    return Page("event_types.html", "Event types", {"list": page})


async def show_new(visit: Visit) -> Page:
    return Page("event_type.html", "New event type", {"event_type": None, "form": {**_NEW, **visit.form}, "newer": {}})


async def create(visit: Visit) -> Redirect:
    await event_types.create(visit.control, visit.principal, _fields(touched(visit.form, _NEW)))
    return Redirect("/event-types", "saved")


async def show_edit(visit: Visit) -> Page:
    event_type = await _event_type(visit)
    return Page("event_type.html", event_type.alias, {"event_type": event_type, **_edit(visit, event_type).shown})


async def change(visit: Visit) -> Redirect:
    edit = _edit(visit, await _event_type(visit))
    await event_types.change(edit.control, visit.principal, visit.ids[0], _fields(edit.changes))
    return Redirect("/event-types", "saved")


async def show_delete(visit: Visit) -> Page:
    event_type = await _event_type(visit)
    values = {"event_type": event_type, **_edit(visit, event_type).shown}
    return Page("event_type_delete.html", f"Delete · {event_type.alias}", values)


async def delete(visit: Visit) -> Redirect:
    await event_types.delete(matching(visit), visit.principal, visit.ids[0])
    return Redirect("/event-types", "deleted")


async def _event_type(visit: Visit) -> EventType:
    return await event_types.get(visit.control, visit.principal, visit.ids[0])


def _edit(visit: Visit, event_type: EventType) -> Edit:
    texts = {"json_schema": event_type.json_schema, "example": event_type.example}
    fields = {name: "" if text is None else indented(text) for name, text in texts.items()}
    own = {"type": event_type.alias, "description": event_type.description, "status": event_type.status}
    return Edit(visit, event_type, {**own, **fields})


def _fields(changes: Mapping[str, str]) -> EventTypeFields:
    """Return the fields of the form; the others keep their values. Raises BadRequest for invalid JSON."""
    texts = {name: changes[name].strip() for name in ("json_schema", "example") if name in changes}
    given = {name: value_of(text, "json", f"/{name}") if text else None for name, text in texts.items()}
    plain = {name: changes[name].strip() or None for name in ("type", "description", "status") if name in changes}
    return msgspec.structs.replace(EventTypeFields(), **plain, **given)


_EVENT_TYPE: Final = "/event-types/{id}"

ROUTES: Final = (
    PageRoute("/event-types", show, needs="schemas"),
    form_route("/event-types/new", show_new, create, "schemas", form_bytes=DATA_FORM_BYTES),
    form_route(_EVENT_TYPE, show_edit, change, "schemas", form_bytes=DATA_FORM_BYTES),
    form_route(f"{_EVENT_TYPE}/delete", show_delete, delete, "schemas"),
)

"""The pages of the portal: the endpoints of a customer, the actions on them, and event types."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import activity, listener_secrets, listeners
from discue.control.listener_fields import ListenerFields, OptionFields, RateFields
from discue.control.listeners import ListenerDetails
from discue.dashboard.fields import decimal_of, indented, is_number
from discue.dashboard.formats import SHOWN_BYTES, beginning
from discue.dashboard.json_example import NoExample, example_of
from discue.dashboard.listing import NO_ROWS, selection_of, shown
from discue.dashboard.pages import listener_actions, message, selected
from discue.dashboard.pages import listeners as listener_pages
from discue.dashboard.pages.listener_actions import cancel, show_cancel
from discue.dashboard.pages.listeners import details_of, drawn, frame, last_attempts, path_of, rows_of
from discue.dashboard.portal import sessions
from discue.dashboard.portal.rules import PortalAction
from discue.dashboard.portal.visit import PortalRoute, of_portal
from discue.dashboard.visit import Act, Page, Redirect, Show, Visit
from discue.domain.errors import DiscueError, invalid
from discue.domain.event_types import parse_pattern
from discue.domain.model import EventType, Queue
from discue.store.event_types import TypeName
from discue.store.pagination import Listing
from discue.store.time_slice import TimeSlice

ENDPOINT: Final = "/queues/{id}/listeners/{id}"

_NOTHING: Final[Mapping[str, str]] = {}
_TYPE: Final = "type-"
"""Prefix of the form fields that choose event types."""
_HAS_TYPES: Final = "has_types"
"""Marks a form that offers event types: with it, no choice means all types."""


def form_of(details: ListenerDetails) -> Mapping[str, str]:
    """Return the fields of the form for an endpoint as it is."""
    listener = details.listener
    rate = listener.options.rate_limit
    return {
        "notify_url": listener.notify_url,
        "description": listener.options.description,
        "per_second": "" if rate is None else f"{rate.per_second:g}",
        **{f"{_TYPE}{each}": "on" for each in listener.options.types or ()},
    }


def fields_of_form(visit: Visit, shown: Mapping[str, str] = _NOTHING) -> ListenerFields:
    """Return the change that a form asks for; `shown` has the fields as they were. Raises Unprocessable."""
    form = {name: value.strip() for name, value in visit.form.items()}
    rate: RateFields | UnsetType | None = UNSET
    text = form.get("per_second", "")
    # Unless it was changed, the limit stays as the organization has set it, with its burst.
    if of_portal(visit).details.may("limit") and text != shown.get("per_second", ""):
        per_second = decimal_of(text, "rate_limit/per_second")
        rate = None if per_second is None else RateFields(per_second)
    types = (_types_in(form) or None) if _HAS_TYPES in form else UNSET
    options = OptionFields(rate_limit=rate, description=form.get("description", UNSET), types=types)
    return ListenerFields(notify_url=form.get("notify_url", ""), options=options)


def _types_in(form: Mapping[str, str]) -> tuple[str, ...]:
    """Return the event types that a form chooses."""
    return tuple(name.removeprefix(_TYPE) for name in form if name.startswith(_TYPE))


async def _types_offered(visit: Visit, form: Mapping[str, str]) -> Sequence[TypeName]:
    """Return the event types to choose from: enabled ones, and those already chosen."""
    found = await sessions.types_offered(visit.control, of_portal(visit).details)
    chosen = set(_types_in(form))
    others = [TypeName(each, "", "") for each in sorted(chosen - {each.type for each in found})]
    return [*(each for each in found if each.status == "enabled" or each.type in chosen), *others]


MOST_AT_ONCE: Final = 20
"""The largest number of endpoints that one form adds."""


async def show_endpoints(visit: Visit) -> Page:
    selection = selection_of(visit)
    found: Listing[ListenerDetails] = NO_ROWS
    has_types = bool(of_portal(visit).details.queues)
    if has_types:
        found = await listeners.page(visit.control, visit.principal, selection, with_missed=False)
    page = shown(visit, found, [each.listener.public_id for each in found.items])
    values = {"list": page, "rows": await rows_of(visit, found.items), "has_types": has_types}
    return Page("endpoints.html", "Endpoints", values)


async def show_new(visit: Visit) -> Page:
    queues, types = await _queues_offered(visit), await _types_offered(visit, visit.form)
    chosen = _chosen(visit, queues)
    if not visit.form:
        chosen = [visit.query.get("queue", "")] if len(queues) > 1 else list(queues)
    form = visit.form or {f"{_TYPE}{each.type}": "on" for each in types if each.type == visit.query.get("type")}
    values = {"queues": queues, "chosen": chosen, "types": types, "form": form}
    return Page("new.html", "Add an endpoint", values)


async def add(visit: Visit) -> Page:
    """Create an endpoint for each chosen queue, and show the secrets, which are shown only once."""
    queues = await _queues_offered(visit)
    chosen = _chosen(visit, queues)
    if not chosen or len(chosen) > MOST_AT_ONCE:
        raise invalid("/queue", f"needs 1 to {MOST_AT_ONCE} choices")
    fields = fields_of_form(visit)
    made, refusal = list[tuple[str, ListenerDetails]](), ""
    for queue in chosen:
        try:
            made.append((queues[queue], await listeners.create(visit.control, visit.principal, queue, fields)))
        except DiscueError as error:
            # The first one shows every fault of the form. Later, the secrets so far must be shown.
            if not made:
                raise
            refusal = f"{queues[queue]}: {error.detail}"
            break
    only = made[0][1].listener
    link = f"/queues/{only.queue_public_id}/listeners/{only.public_id}" if len(made) == 1 else ""
    return Page("added.html", "Signing secrets", {"made": made, "refusal": refusal, "link": link})


async def _queues_offered(visit: Visit) -> Mapping[str, str]:
    """Return the customer's own queues by their ids: only these may get endpoints."""
    details = of_portal(visit).details
    return await sessions.queue_names(visit.control, details, details.own_queues)


def _chosen(visit: Visit, queues: Mapping[str, str]) -> list[str]:
    return [each for each in queues if f"queue-{each}" in visit.form]


async def show(visit: Visit) -> Page:
    details = await details_of(visit)
    day = await activity.of_listener(visit.control, details.listener)
    values = {**frame(visit, details), **await drawn(visit, details, day), **await last_attempts(visit, details)}
    return Page("endpoint.html", "Endpoint", values)


async def show_missed(visit: Visit) -> Page:
    return replace(await listener_pages.show_missed(visit), title="Missed messages")


async def show_jobs(visit: Visit) -> Page:
    return replace(await listener_pages.show_jobs(visit), title="Sent again")


async def show_edit(visit: Visit) -> Page:
    details = await details_of(visit)
    form = visit.form or form_of(details)
    values = {**frame(visit, details), "form": form, "types": await _types_offered(visit, form)}
    return Page("edit.html", "Edit the endpoint", values)


async def edit(visit: Visit) -> Redirect:
    shown = form_of(await details_of(visit))
    await listeners.change(visit.control, visit.principal, *visit.ids, fields=fields_of_form(visit, shown))
    return Redirect(path_of(visit), "changed")


async def show_secrets(visit: Visit) -> Page:
    details = await details_of(visit)
    secrets = await listener_secrets.page(visit.control, visit.principal, visit.ids)
    return Page("secrets.html", "Signing secrets", {**frame(visit, details), "secrets": secrets.items})


_LANGUAGES: Final = ("Python", "Node", "Go", "Ruby", "PHP", "Java")
VERIFICATION: Final = {
    name: files(__package__).joinpath("verification", f"{name.lower()}.txt").read_text() for name in _LANGUAGES
}
"""Programs that verify the signature of a request, by the names of their languages."""


async def show_verification(visit: Visit) -> Page:
    values = {**frame(visit, await details_of(visit)), "programs": VERIFICATION}
    return Page("verification.html", "Verify requests", values)


async def show_delete(visit: Visit) -> Page:
    return Page("delete.html", "Delete the endpoint", frame(visit, await details_of(visit)))


async def delete(visit: Visit) -> Redirect:
    await listeners.delete(visit.control, visit.principal, *visit.ids)
    return Redirect("", "deleted")


SHOWN_TYPES: Final = 10
"""Event types on one page. The size of a page is that of their schemas."""


@dataclass(frozen=True, slots=True)
class ShownType:
    """An event type, with its schema and an example as text; "" for none."""

    name: str
    adds: str
    """The query of the form for an endpoint that receives it; "" if the customer may not add one."""
    schema: str
    is_cut: bool
    """Whether `schema` is only the beginning of the schema."""
    example: str
    description: str = ""
    is_deprecated: bool = False


async def show_event_types(visit: Visit) -> Page:
    """Show the catalogue; without one, show each queue of the session as an event type."""
    details = of_portal(visit).details
    names: Sequence[str] = [each.type for each in await sessions.types_offered(visit.control, details)]
    queues: Sequence[str] = [] if names else list(await sessions.queue_names(visit.control, details))
    pages, asked = max(1, -(-len(names or queues) // SHOWN_TYPES)), visit.query.get("page", "")
    number = int(asked) if is_number(asked) and int(asked) in range(1, pages + 1) else 1
    part = slice((number - 1) * SHOWN_TYPES, number * SHOWN_TYPES)
    types, time_slice = list[ShownType](), TimeSlice()
    for event_type in await sessions.types_among(visit.control, details, names[part]):
        types.append(_shown_type(event_type, may_add=details.may("create") and bool(details.own_queues)))
        await time_slice.pause_if_over()
    for queue in await sessions.schemas_of(visit.control, details, queues[part]):
        types.append(_shown_queue(queue, may_add=details.may("create", queue.public_id)))
        # A large schema takes some milliseconds.
        await time_slice.pause_if_over()
    values = {"types": types, "number": number, "pages": pages}
    return Page("event_types.html", "Event types", values)


def _shown_type(event_type: EventType, *, may_add: bool) -> ShownType:
    schema, example = _described(event_type.json_schema, event_type.example)
    return ShownType(
        event_type.alias,
        urlencode({"type": event_type.alias}) if may_add and event_type.status == "enabled" else "",
        *_cut(schema, example),
        description=event_type.description,
        is_deprecated=event_type.status == "deprecated",
    )


def _shown_queue(queue: Queue, *, may_add: bool) -> ShownType:
    link = urlencode({"queue": queue.public_id}) if may_add else ""
    return ShownType(queue.event_type, link, *_cut(*_described(_schema_of(queue))))


def _cut(schema: str, example: str) -> tuple[str, bool, str]:
    text = beginning(schema, SHOWN_BYTES)
    # A truncated example is not shown.
    return text, text != schema, example if beginning(example, SHOWN_BYTES) == example else ""


def _schema_of(queue: Queue) -> str | None:
    return queue.schema if queue.schema_language == "json_schema" else None


def _described(schema: str | None, example: str | None = None) -> tuple[str, str]:
    """Return a JSON Schema and an example as texts, "" if missing. A missing example is made from the schema."""
    if example is None and schema is not None:
        with suppress(NoExample):
            example = msgspec.json.encode(example_of(msgspec.json.decode(schema))).decode()
    return "" if schema is None else indented(schema), "" if example is None else indented(example)


_TEST_BYTES: Final = 262_144
"""The largest form of a test."""


async def show_test(visit: Visit) -> Page:
    """Show the form with the example of an event type, unless a message was chosen."""
    page = await _with_types(visit, await listener_actions.show_test(visit))
    if visit.form or visit.query.get("message"):
        return page
    details, offered = of_portal(visit).details, page.values["types"]
    asked = visit.query.get("type", offered[0] if offered else "")
    found = await sessions.types_among(visit.control, details, [asked])
    if found:
        example = _described(found[0].json_schema, found[0].example)[1]
    else:
        queues = await sessions.schemas_of(visit.control, details, visit.ids[:1])
        example = "".join(_described(_schema_of(each))[1] for each in queues)
    form = {**page.values["form"], "type": asked, **({"data": example} if example else {})}
    return replace(page, values={**page.values, "form": form})


async def test(visit: Visit) -> Page:
    return await _with_types(visit, await listener_actions.test(visit))


async def _with_types(visit: Visit, page: Page) -> Page:
    """Add the event types that the endpoint receives."""
    chosen = page.values["listener"].options.types
    offered = [each.type for each in await sessions.types_offered(visit.control, of_portal(visit).details)]
    patterns = None if chosen is None else [parse_pattern(each) for each in chosen]
    own, time_slice = list[str](), TimeSlice()
    for each in offered:
        if patterns is None or any(one.matches(each) for one in patterns):
            own.append(each)
        await time_slice.pause_if_over()
    return replace(page, values={**page.values, "types": own})


async def _name(visit: Visit, ids: Collection[str]) -> Mapping[str, str]:
    """Return the name of the endpoint that the page is about, which is the only one that rows can be of."""
    del ids
    found = (await details_of(visit)).listener
    return {found.public_id: found.endpoint}


_REDELIVER: Final = selected.REDELIVER._replace(
    back=f"{ENDPOINT}/missed", then=f"{ENDPOINT}/jobs", notice="redelivering", names=_name
)


def _action(name: str, show: Show, act: Act, action: PortalAction = "redeliver", **options: Any) -> PortalRoute:
    return PortalRoute(f"{ENDPOINT}/{name}", show, act, action=action, is_form=True, **options)


ROUTES: Final = (
    PortalRoute("", show_endpoints),
    PortalRoute("/endpoints/new", show_new, add, action="create", is_form=True),
    PortalRoute("/event-types", show_event_types),
    PortalRoute(ENDPOINT, show),
    PortalRoute(f"{ENDPOINT}/missed", show_missed),
    PortalRoute(f"{ENDPOINT}/jobs", show_jobs),
    PortalRoute(f"{ENDPOINT}/verification", show_verification),
    PortalRoute(f"{ENDPOINT}/secrets", show_secrets, action="secrets", is_form=True),
    _action("edit", show_edit, edit, "edit"),
    _action("delete", show_delete, delete, "delete"),
    _action("disable", listener_actions.SHOW_DISABLE, listener_actions.disable, "disable"),
    _action("enable", listener_actions.SHOW_DISABLE, listener_pages.enable, "disable"),
    _action("rotate", listener_actions.show_rotate, listener_actions.rotate, "secrets"),
    _action("test", show_test, test, "test", form_bytes=_TEST_BYTES, waits=True),
    _action("redeliver", listener_actions.show_redeliver, listener_actions.redeliver),
    _action("missed/redeliver", partial(selected.show, action=_REDELIVER), partial(selected.act, action=_REDELIVER)),
    _action("replay", listener_actions.show_replay, listener_actions.replay, "replay"),
    _action("cancel-redelivery", partial(show_cancel, kind="redelivery"), partial(cancel, kind="redelivery")),
    _action("cancel-replay", partial(show_cancel, kind="replay"), partial(cancel, kind="replay"), "replay"),
    PortalRoute("/queues/{id}/messages/{id}", message.show),
    PortalRoute(message.DATA, message.show_data),
    PortalRoute(message.RESPONSE, message.show_response),
)

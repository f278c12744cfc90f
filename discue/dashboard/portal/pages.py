"""The pages of the portal: the endpoints of a customer, the actions on them, and event types."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

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
from discue.domain.model import Queue
from discue.store.pagination import Listing
from discue.store.time_slice import TimeSlice

ENDPOINT: Final = "/queues/{id}/listeners/{id}"

_NOTHING: Final[Mapping[str, str]] = {}


def form_of(details: ListenerDetails) -> Mapping[str, str]:
    """Return the fields of the form for an endpoint as it is."""
    listener = details.listener
    rate = listener.options.rate_limit
    return {
        "notify_url": listener.notify_url,
        "description": listener.options.description,
        "per_second": "" if rate is None else f"{rate.per_second:g}",
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
    options = OptionFields(rate_limit=rate, description=form.get("description", UNSET))
    return ListenerFields(notify_url=form.get("notify_url", ""), options=options)


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
    types = await _types_offered(visit)
    chosen = _chosen(visit, types)
    if not visit.form:
        chosen = [visit.query.get("queue", "")] if len(types) > 1 else list(types)
    return Page("new.html", "Add an endpoint", {"types": types, "chosen": chosen, "form": visit.form})


async def add(visit: Visit) -> Page:
    """Create an endpoint for each chosen event type, and show their secrets: this is the only time."""
    types = await _types_offered(visit)
    chosen = _chosen(visit, types)
    if not chosen or len(chosen) > MOST_AT_ONCE:
        raise invalid(
            "/queue", f"takes at most {MOST_AT_ONCE} event types at once" if chosen else "needs at least one event type"
        )
    fields = fields_of_form(visit)
    made, refusal = list[tuple[str, ListenerDetails]](), ""
    for queue in chosen:
        try:
            made.append((types[queue], await listeners.create(visit.control, visit.principal, queue, fields)))
        except DiscueError as error:
            # The first one shows every fault of the form. Later, the secrets so far must be shown.
            if not made:
                raise
            refusal = f"{types[queue]}: {error.detail}"
            break
    only = made[0][1].listener
    link = f"/queues/{only.queue_public_id}/listeners/{only.public_id}" if len(made) == 1 else ""
    return Page("added.html", "Signing secrets", {"made": made, "refusal": refusal, "link": link})


async def _types_offered(visit: Visit) -> Mapping[str, str]:
    """Return the event types of the customer's own queues: only these may get endpoints."""
    details = of_portal(visit).details
    return await sessions.event_types(visit.control, details, details.own_queues)


def _chosen(visit: Visit, types: Mapping[str, str]) -> list[str]:
    return [each for each in types if f"queue-{each}" in visit.form]


async def show(visit: Visit) -> Page:
    details = await details_of(visit)
    day = await activity.of_listener(visit.control, details.listener)
    values = {**frame(visit, details), **drawn(day), **await last_attempts(visit, details)}
    return Page("endpoint.html", "Endpoint", values)


async def show_missed(visit: Visit) -> Page:
    return replace(await listener_pages.show_missed(visit), title="Missed messages")


async def show_jobs(visit: Visit) -> Page:
    return replace(await listener_pages.show_jobs(visit), title="Sent again")


async def show_edit(visit: Visit) -> Page:
    details = await details_of(visit)
    return Page("edit.html", "Edit the endpoint", {**frame(visit, details), "form": visit.form or form_of(details)})


async def edit(visit: Visit) -> Redirect:
    shown = form_of(await details_of(visit))
    await listeners.change(visit.control, visit.principal, *visit.ids, fields=fields_of_form(visit, shown))
    return Redirect(path_of(visit), "changed")


async def show_secrets(visit: Visit) -> Page:
    details = await details_of(visit)
    secrets = await listener_secrets.page(visit.control, visit.principal, visit.ids)
    return Page("secrets.html", "Signing secrets", {**frame(visit, details), "secrets": secrets.items})


async def show_delete(visit: Visit) -> Page:
    return Page("delete.html", "Delete the endpoint", frame(visit, await details_of(visit)))


async def delete(visit: Visit) -> Redirect:
    await listeners.delete(visit.control, visit.principal, *visit.ids)
    return Redirect("", "deleted")


SHOWN_TYPES: Final = 10
"""Event types on one page. The size of a page is that of their schemas."""


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type, with its schema and an example as text; "" for none."""

    queue: Queue
    schema: str
    is_cut: bool
    """Whether `schema` is only the beginning of the schema."""
    example: str


async def show_event_types(visit: Visit) -> Page:
    details = of_portal(visit).details
    names = await sessions.event_types(visit.control, details)
    ids, pages, asked = list(names), max(1, -(-len(names) // SHOWN_TYPES)), visit.query.get("page", "")
    number = int(asked) if is_number(asked) and int(asked) in range(1, pages + 1) else 1
    shown = ids[(number - 1) * SHOWN_TYPES : number * SHOWN_TYPES]
    types, time_slice = [], TimeSlice()
    for queue in await sessions.schemas_of(visit.control, details, shown):
        types.append(event_type_of(queue))
        # A large schema takes some milliseconds.
        await time_slice.pause_if_over()
    values = {"types": types, "number": number, "pages": pages}
    return Page("event_types.html", "Event types", values)


def event_type_of(queue: Queue) -> EventType:
    """Return the schema of a queue and an example of its messages, as far as one follows from the schema."""
    whole, example = _described(queue)
    text = beginning(whole, SHOWN_BYTES)
    # A part of an example is none.
    is_short = beginning(example, SHOWN_BYTES) == example
    return EventType(queue, text, is_cut=text != whole, example=example if is_short else "")


def _described(queue: Queue) -> tuple[str, str]:
    """Return the JSON Schema of a queue and an example of its messages, as texts. A missing one is ""."""
    if queue.schema is None or queue.schema_language != "json_schema":
        return "", ""
    schema = msgspec.json.decode(queue.schema)
    try:
        example = indented(msgspec.json.encode(example_of(schema)).decode())
    except NoExample:
        example = ""
    return indented(queue.schema), example


_TEST_BYTES: Final = 262_144
"""The largest form of a test."""


async def show_test(visit: Visit) -> Page:
    """Show the form, with the example of the event type unless a message was chosen."""
    page = await listener_actions.show_test(visit)
    if visit.form or visit.query.get("message"):
        return page
    found = await sessions.schemas_of(visit.control, of_portal(visit).details, visit.ids[:1])
    example = "".join(_described(each)[1] for each in found)
    form = {**page.values["form"], **({"data": example} if example else {})}
    return Page(page.template, page.title, {**page.values, "form": form})


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
    PortalRoute(f"{ENDPOINT}/secrets", show_secrets, action="secrets", is_form=True),
    _action("edit", show_edit, edit, "edit"),
    _action("delete", show_delete, delete, "delete"),
    _action("disable", listener_actions.SHOW_DISABLE, listener_actions.disable, "disable"),
    _action("enable", listener_actions.SHOW_DISABLE, listener_pages.enable, "disable"),
    _action("rotate", listener_actions.show_rotate, listener_actions.rotate, "secrets"),
    _action("test", show_test, listener_actions.test, "test", form_bytes=_TEST_BYTES, waits=True),
    _action("redeliver", listener_actions.show_redeliver, listener_actions.redeliver),
    _action("missed/redeliver", partial(selected.show, action=_REDELIVER), partial(selected.act, action=_REDELIVER)),
    _action("replay", listener_actions.show_replay, listener_actions.replay, "replay"),
    _action("cancel-redelivery", partial(show_cancel, kind="redelivery"), partial(cancel, kind="redelivery")),
    _action("cancel-replay", partial(show_cancel, kind="replay"), partial(cancel, kind="replay"), "replay"),
    PortalRoute("/queues/{id}/messages/{id}", message.show),
    PortalRoute(message.DATA, message.show_data),
    PortalRoute(message.RESPONSE, message.show_response),
)

"""Erasures of a queue: their list, and the form that erases the messages with a key."""

from typing import Final

from discue.api.delivery_options import key_given
from discue.control import erasures, listeners, queues
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route


async def show_list(visit: Visit) -> Page:
    details = await queues.summary(visit.control, visit.principal, visit.ids[0])
    found = await erasures.page(visit.control, visit.principal, details.queue, selection_of(visit))
    page = shown(visit, found, [each.public_id for each in found.items])
    ids = {listener for each in found.items for listener in each.delivered}
    names = await listeners.names(visit.control, visit.principal, ids)
    return Page("erasures.html", details.queue.alias, {"details": details, "list": page, "names": names})


async def show_erase(visit: Visit) -> Page:
    details = await queues.summary(visit.control, visit.principal, visit.ids[0])
    typed = visit.form.get("key", visit.query.get("key", ""))
    return Page("erase.html", f"Erase · {details.queue.alias}", {"details": details, "typed": typed})


async def erase(visit: Visit) -> Redirect:
    key = key_given(visit.form.get("key", ""), "/key") or ""
    await erasures.create(visit.control, visit.principal, visit.ids[0], key)
    return Redirect(f"/queues/{visit.ids[0]}/erasures", "erased")


_QUEUE: Final = "/queues/{id}"

ROUTES: Final = (
    PageRoute(f"{_QUEUE}/erasures", show_list, needs="messages"),
    form_route(f"{_QUEUE}/erase", show_erase, erase, "messages"),
)

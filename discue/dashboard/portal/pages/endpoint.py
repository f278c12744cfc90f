"""An endpoint: whether it keeps up, why not, what it answered last, and its settings."""

from typing import Final

from discue.control import listener_secrets, listeners, messages, redeliveries
from discue.control.listeners import ListenerFields
from discue.dashboard.charts import sparkline
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.pages.listener import frame, path_of
from discue.dashboard.portal.route import PortalRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.model import MISSED_REASONS
from discue.store.pagination import Selection

_ATTEMPTS: Final = 25
_JOBS: Final = 10


async def show(visit: Visit) -> Page:
    """Show the log of attempts."""
    details = await listeners.get(visit.control, visit.principal, *visit.ids)
    selection = selection_of(visit, "outcome", "status", per_page=_ATTEMPTS)
    found = await messages.page_of_listener_attempts(visit.control, visit.principal, visit.ids, selection)
    values = {
        **await frame(visit, details),
        "list": shown(visit, found, [each.id for each in found.items], "outcome", "status"),
        "made": len(found.items),
        "acknowledged": sum(not each.error for each in found.items),
        "spark": sparkline(found.items),
        "outcome": visit.query.get("outcome", ""),
    }
    return Page("endpoint.html", "Endpoint", values)


async def show_missed(visit: Visit) -> Page:
    details = await listeners.get(visit.control, visit.principal, *visit.ids)
    found = await redeliveries.page_of_missed(visit.control, visit.principal, visit.ids, selection_of(visit, "reason"))
    page = shown(visit, found, [each.id for each in found.items], "reason")
    values = {"list": page, "reason": visit.query.get("reason", ""), "reasons": MISSED_REASONS}
    return Page("missed.html", "Missed messages", {**await frame(visit, details), **values})


async def show_jobs(visit: Visit) -> Page:
    """Show redeliveries and replays, with their progress."""
    details, selection = await listeners.get(visit.control, visit.principal, *visit.ids), Selection(per_page=_JOBS)
    moved = await redeliveries.page(visit.control, visit.principal, visit.ids, selection)
    replays = await redeliveries.page_of_replays(visit.control, visit.principal, visit.ids, selection)
    values = {**await frame(visit, details), "redeliveries": moved.items, "replays": replays.items}
    return Page("jobs.html", "Sent again", values)


async def show_edit(visit: Visit) -> Page:
    details = await listeners.get(visit.control, visit.principal, *visit.ids)
    form = visit.form or {"notify_url": details.listener.notify_url}
    return Page("edit.html", "Edit the endpoint", {**await frame(visit, details), "form": form})


async def edit(visit: Visit) -> Redirect:
    """Change the URL, which is all of an endpoint that a customer decides."""
    fields = ListenerFields(notify_url=visit.form.get("notify_url", "").strip())
    await listeners.change(visit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(path_of(visit), "changed")


async def show_secrets(visit: Visit) -> Page:
    details = await listeners.get(visit.control, visit.principal, *visit.ids)
    secrets = await listener_secrets.page(visit.control, visit.principal, visit.ids)
    return Page("secrets.html", "Signing secrets", {**await frame(visit, details), "secrets": secrets.items})


async def show_delete(visit: Visit) -> Page:
    details = await listeners.get(visit.control, visit.principal, *visit.ids)
    return Page("delete.html", "Delete the endpoint", await frame(visit, details))


async def delete(visit: Visit) -> Redirect:
    await listeners.delete(visit.control, visit.principal, *visit.ids)
    return Redirect("", "deleted")


ENDPOINT: Final = "/queues/{id}/listeners/{id}"

ROUTES: Final = (
    PortalRoute(ENDPOINT, show),
    PortalRoute(f"{ENDPOINT}/missed", show_missed),
    PortalRoute(f"{ENDPOINT}/jobs", show_jobs),
    PortalRoute(f"{ENDPOINT}/secrets", show_secrets, action="secrets", is_form=True),
    PortalRoute(f"{ENDPOINT}/edit", show_edit, edit, action="edit", is_form=True),
    PortalRoute(f"{ENDPOINT}/delete", show_delete, delete, action="delete", is_form=True),
)

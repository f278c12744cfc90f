"""An endpoint: whether it keeps up, why not, what it answered last, and its settings."""

from dataclasses import replace
from typing import Final

from discue.control import listener_activity, listener_secrets, listeners
from discue.dashboard.pages import listener
from discue.dashboard.pages.listener import details_of, drawn, frame, last_attempts, path_of
from discue.dashboard.portal.endpoint_form import fields_of_form, form_of
from discue.dashboard.portal.route import PortalRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.reservations import HTML_PAGE


async def show(visit: Visit) -> Page:
    """Show the past day, and the log of attempts."""
    details = await details_of(visit)
    day = await listener_activity.of_listener(visit.control, details.listener)
    values = {**frame(visit, details), **drawn(day), **await last_attempts(visit, details)}
    return Page("endpoint.html", "Endpoint", values)


async def show_missed(visit: Visit) -> Page:
    return replace(await listener.show_missed(visit), title="Missed messages")


async def show_jobs(visit: Visit) -> Page:
    return replace(await listener.show_jobs(visit), title="Sent again")


async def show_edit(visit: Visit) -> Page:
    details = await details_of(visit)
    return Page("edit.html", "Edit the endpoint", {**frame(visit, details), "form": visit.form or form_of(details)})


async def edit(visit: Visit) -> Redirect:
    """Change the part of an endpoint that a customer decides."""
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


ENDPOINT: Final = "/queues/{id}/listeners/{id}"

ROUTES: Final = (
    PortalRoute(ENDPOINT, show, reads=HTML_PAGE),
    PortalRoute(f"{ENDPOINT}/missed", show_missed, reads=HTML_PAGE),
    PortalRoute(f"{ENDPOINT}/jobs", show_jobs, reads=HTML_PAGE),
    PortalRoute(f"{ENDPOINT}/secrets", show_secrets, action="secrets", is_form=True, reads=HTML_PAGE),
    PortalRoute(f"{ENDPOINT}/edit", show_edit, edit, action="edit", is_form=True, reads=HTML_PAGE),
    PortalRoute(f"{ENDPOINT}/delete", show_delete, delete, action="delete", is_form=True, reads=HTML_PAGE),
)

"""Forms that create, change and delete a queue."""

from typing import Final

from discue.control import queues
from discue.control.queues import QueueDetails
from discue.dashboard.fields import DATA_FORM_BYTES, Edit, touched
from discue.dashboard.queue_form import LANGUAGES, NEW, fields_of, texts_of
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.errors import invalid
from discue.domain.reservations import HTML_PAGE
from discue.domain.retry import DEFAULT_RETRY_POLICY


async def show_new(visit: Visit) -> Page:
    values = {"form": {**NEW, **visit.form}, "newer": {}, **_defaults(visit)}
    return Page("queue_new.html", "New queue", values)


async def create(visit: Visit) -> Redirect:
    fields = await fields_of(visit.control, touched(visit.form, NEW), {**NEW, **visit.form})
    made = await queues.create(visit.control, visit.principal, fields)
    return Redirect(f"/queues/{made.queue.public_id}", "queue_created")


async def show_edit(visit: Visit) -> Page:
    details = await _queue(visit)
    values = {"details": details, **_edit(visit, details).shown, **_defaults(visit)}
    return Page("queue_edit.html", f"Edit · {details.queue.alias}", values)


async def change(visit: Visit) -> Redirect:
    details = await _queue(visit)
    edit = _edit(visit, details)
    fields = await fields_of(visit.control, edit.changes, edit.values, details.queue)
    await queues.change(edit.control, visit.principal, visit.ids[0], fields)
    return Redirect(f"/queues/{visit.ids[0]}/settings", "saved")


async def show_delete(visit: Visit) -> Page:
    details = await _queue(visit)
    typed = visit.form.get("name", "")
    return Page("queue_delete.html", f"Delete · {details.queue.alias}", {"details": details, "typed": typed})


async def delete(visit: Visit) -> Redirect:
    """Delete the queue if its name was typed, so that a wrong click does not delete a log."""
    details = await _queue(visit)
    if visit.form.get("name", "").strip() != details.queue.alias:
        raise invalid("/name", f"must be the name of the queue: {details.queue.alias}")
    await queues.delete(visit.control, visit.principal, visit.ids[0])
    return Redirect("/queues", "queue_deleted")


def default_retention(visit: Visit) -> int:
    """Return the retention of queues without one of their own, in seconds."""
    own: int | None = visit.user.details.organization.settings.get("retention_seconds")
    return visit.control.settings.retention_seconds if own is None else own


def _defaults(visit: Visit) -> dict[str, object]:
    return {
        "retention": default_retention(visit),
        "max_bytes": visit.control.settings.max_message_bytes,
        "policy": DEFAULT_RETRY_POLICY,
        "languages": LANGUAGES,
    }


def _edit(visit: Visit, details: QueueDetails) -> Edit:
    return Edit(visit, details.queue, texts_of(details.queue))


async def _queue(visit: Visit) -> QueueDetails:
    return await queues.get(visit.control, visit.principal, visit.ids[0])


_QUEUE: Final = "/queues/{id}"

ROUTES: Final = (
    PageRoute(
        "/queues/new", show_new, create, needs="queues", is_form=True, form_bytes=DATA_FORM_BYTES, reads=HTML_PAGE
    ),
    PageRoute(
        f"{_QUEUE}/edit", show_edit, change, needs="queues", is_form=True, form_bytes=DATA_FORM_BYTES, reads=HTML_PAGE
    ),
    PageRoute(f"{_QUEUE}/delete", show_delete, delete, needs="queues", is_form=True, reads=HTML_PAGE),
)

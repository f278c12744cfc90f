"""Forms that create and change a listener."""

from typing import Final

from discue.control import listeners, queues
from discue.control.listeners import ListenerDetails
from discue.dashboard.fields import DATA_FORM_BYTES, Edit, touched
from discue.dashboard.listener_form import NEW, SECRETS, fields_of, texts_of
from discue.dashboard.pages.listener import defaults, details_of, frame, path_of
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.reservations import HTML_PAGE


async def show_new(visit: Visit) -> Page:
    details = await queues.get(visit.control, visit.principal, visit.ids[0])
    values = {"queue": details.queue, "mode": "", "form": {**NEW, **visit.form}, "newer": {}}
    return Page("listener_new.html", details.queue.alias, {**values, **defaults(visit, details.queue.retry)})


async def create(visit: Visit) -> Page | Redirect:
    """Create the listener, and show its secret: this is the only time."""
    fields = fields_of(touched(visit.form, NEW), {**NEW, **visit.form})
    made = await listeners.create(visit.control, visit.principal, visit.ids[0], fields)
    listener = made.listener
    link = f"/queues/{visit.ids[0]}/listeners/{listener.public_id}"
    if listener.mode == "pull":
        return Redirect(link, "listener_created")
    values = {"heading": f"{listener.alias} is ready", "text": made.secret, "link": link, "back": listener.alias}
    return Page("secret.html", "Signing secret", values)


async def show_edit(visit: Visit) -> Page:
    details = await details_of(visit)
    listener = details.listener
    values = {**frame(visit, details), **_edit(visit, details).shown, "mode": listener.mode}
    return Page("listener_edit.html", f"Edit · {listener.alias}", {**values, **defaults(visit, listener.queue_retry)})


async def change(visit: Visit) -> Redirect:
    edit = _edit(visit, await details_of(visit))
    fields = fields_of({**edit.changes, **touched(visit.form, SECRETS)}, edit.values)
    await listeners.change(edit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(f"{path_of(visit)}/settings", "saved")


def _edit(visit: Visit, details: ListenerDetails) -> Edit:
    return Edit(visit, details.listener, texts_of(details.listener))


_LISTENERS: Final = "/queues/{id}/listeners"

ROUTES: Final = (
    PageRoute(
        f"{_LISTENERS}/new",
        show_new,
        create,
        needs="queues",
        writes="listeners",
        is_form=True,
        form_bytes=DATA_FORM_BYTES,
        reads=HTML_PAGE,
    ),
    PageRoute(
        f"{_LISTENERS}/{{id}}/edit",
        show_edit,
        change,
        needs="listeners",
        is_form=True,
        form_bytes=DATA_FORM_BYTES,
        reads=HTML_PAGE,
    ),
)

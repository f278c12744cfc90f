"""The editor of a listener's transform, with inputs, results and failures side by side."""

from dataclasses import replace
from typing import Final

from discue.control import listener_tests, listeners
from discue.control.listener_fields import ListenerFields, OptionFields
from discue.dashboard.fields import Edit, plain
from discue.dashboard.pages.listeners import details_of, frame, path_of
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route

_SHOWN: Final = 10
"""The largest number of failures on the page."""
_TRIED: Final = 1_000


async def show(visit: Visit) -> Page:
    details = await details_of(visit)
    edit = Edit(visit, details.listener, {"transform": details.listener.options.transform or ""})
    values = {**frame(visit, details), **edit.shown, "tested": None, "heading": "Transform"}
    return Page("transform.html", f"Transform · {details.listener.alias}", values)


async def act(visit: Visit) -> Page | Redirect:
    """Try the expression, or save it. Raises Unprocessable if it is not supported."""
    details = await details_of(visit)
    text = plain(visit.form.get("transform", "")) or None
    if "save" in visit.form:
        edit = Edit(visit, details.listener, {})
        fields = ListenerFields(options=OptionFields(transform=text))
        await listeners.change(edit.control, visit.principal, *visit.ids, fields=fields)
        return Redirect(f"{path_of(visit)}/settings", "saved")
    page = await show(visit)
    if text is None:
        return page
    found = await listener_tests.try_transform(visit.control, visit.principal, visit.ids, given=text, limit=_TRIED)
    return replace(page, values={**page.values, "tested": found, "failed": found.failed[:_SHOWN]})


ROUTES: Final[tuple[PageRoute, ...]] = (
    form_route("/queues/{id}/listeners/{id}/transform", show, act, "messages", writes="listeners"),
)

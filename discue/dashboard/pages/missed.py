"""The messages that listeners have missed: dead letters, of all queues."""

from typing import Final

from msgspec.structs import replace

from discue.control import redeliveries, search
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import Unprocessable, invalid
from discue.domain.model import MISSED_REASONS

_FILTERS: Final = ("listener", "queue", "reason")


async def show(visit: Visit) -> Page:
    selection, wrong = selection_of(visit, *_FILTERS), dict[str, str]()
    if selection.listener is not None:
        try:
            selection = replace(selection, listener=await _listener(visit, selection.listener))
        except Unprocessable as error:
            # Not an error of the visit: there is nothing to save, and the list stays, without this filter.
            wrong = {fault.pointer: fault.detail for fault in error.faults}
            selection = replace(selection, listener=None)
    found = await redeliveries.page_of_all_missed(visit.control, visit.principal, selection)
    # The positions in this list are not ids of messages: the same message may be missed by several listeners.
    page = shown(visit, found, [], *_FILTERS)
    return Page(
        "missed.html",
        "Missed",
        {
            "list": page,
            "filters": {name: visit.query.get(name, "") for name in _FILTERS},
            "wrong": wrong,
            "reasons": MISSED_REASONS,
        },
        is_live=True,
    )


async def _listener(visit: Visit, given: str) -> str:
    """Return the id of the listener with an id or a name. Raises Unprocessable unless there is exactly one."""
    found = (await search.find(visit.control, visit.principal, given, ["listeners"])).listeners
    if not found:
        raise invalid("/listener", "is not the name or the id of a listener")
    if len(found) > 1:
        raise invalid("/listener", "is the name of several listeners: give the id of one")
    return found[0].public_id


ROUTES: Final = (PageRoute("/missed", show, needs="listeners"),)

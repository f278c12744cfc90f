"""Search: an id or a name of anything, or messages and attempts by qualifiers."""

from typing import Any, Final

import msgspec

from discue.control import messages, search
from discue.control.search import Found
from discue.dashboard.listing import ShownList, is_position, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.search import QUALIFIERS, Search, parse_search
from discue.dashboard.visit import PER_PAGE, Page, Redirect, Visit
from discue.domain.errors import BadRequest, Unprocessable
from discue.store.pagination import Selection


async def show(visit: Visit) -> Page | Redirect:
    text = visit.query.get("q", "").strip()
    values: dict[str, Any] = {"q": text, "qualifiers": QUALIFIERS, "problem": "", "found": Found(), "list": None}
    try:
        asked = parse_search(text, visit.now)
        if asked.status:
            return await _attempts(visit, asked)
        if asked.is_about_messages:
            values["list"] = await _messages(visit, asked)
        elif text:
            found = await _found(visit, asked)
            if path := _only_path(found):
                return Redirect(path)
            values["found"] = found
    except (BadRequest, Unprocessable) as error:
        values["problem"] = error.detail
    return Page("search.html", "Search", values)


async def _found(visit: Visit, asked: Search) -> Found:
    """Find what has the id or the name; with a qualifier, only a queue or a listener."""
    wanted = asked.text or asked.listener or asked.queue
    found = await search.find(visit.control, visit.principal, wanted)
    if asked.text:
        return found
    return Found(listeners=found.listeners) if asked.listener else Found(queues=found.queues)


def _only_path(found: Found) -> str:
    """Return the path of the only result; "" if there are none or several."""
    paths = [f"/queues/{each.public_id}" for each in found.queues]
    paths += [f"/queues/{each.queue_public_id}/listeners/{each.public_id}" for each in found.listeners]
    paths += [f"/queues/{each.queue_public_id}/messages/{each.id}" for each in found.messages]
    return paths[0] if len(paths) == 1 else ""


async def _attempts(visit: Visit, asked: Search) -> Redirect:
    """Lead to the attempts of the listener. Raises BadRequest if none has the name."""
    found = await search.find(visit.control, visit.principal, asked.listener)
    if len(found.listeners) != 1:
        raise _not_one("listener", asked.listener, len(found.listeners))
    [listener] = found.listeners
    return Redirect(f"/queues/{listener.queue_public_id}/listeners/{listener.public_id}?status={asked.status}")


async def _messages(visit: Visit, asked: Search) -> ShownList:
    """Return messages, of one queue or of all. Raises BadRequest for a queue or a listener that does not exist."""
    listener = await _id_of(visit, "listener", asked.listener)
    queue = await _id_of(visit, "queue", asked.queue)
    asked_for = {
        "per_page": PER_PAGE,
        "alias": asked.text or None,
        "key": asked.key or None,
        "state": asked.state or None,
        "created_after": asked.since - 1 if asked.since else None,
        "listener": listener or None,
    }
    position = {name: visit.query[name] for name in ("after", "before") if is_position(visit.query.get(name, ""))}
    selection = msgspec.convert({**asked_for, **position}, Selection)
    if queue:
        found = await messages.page_of_queue(visit.control, visit.principal, queue, selection)
    else:
        found = await messages.page(visit.control, visit.principal, selection)
    return shown(visit, found, [each.id for each in found.items], "q")


async def _id_of(visit: Visit, kind: str, name: str) -> str:
    if not name:
        return ""
    found = await search.find(visit.control, visit.principal, name)
    among = found.queues if kind == "queue" else found.listeners
    if len(among) != 1:
        raise _not_one(kind, name, len(among))
    return among[0].public_id


def _not_one(kind: str, name: str, count: int) -> BadRequest:
    if count:
        return BadRequest(f'Several {kind}s are called "{name}": use the id of one.', code="invalid_parameter")
    return BadRequest(f'No {kind} is called "{name}".', code="invalid_parameter")


ROUTES: Final = (PageRoute("/search", show),)

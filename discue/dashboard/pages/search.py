"""Search: an id or a name of anything, or messages and attempts by qualifiers."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from discue.control import messages, search
from discue.control.search import Found
from discue.dashboard.formats import PREVIEW_BYTES
from discue.dashboard.listing import ShownList, is_position, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.search import QUALIFIERS, Search, parse_search
from discue.dashboard.visit import PER_PAGE, Page, Redirect, Visit
from discue.domain.errors import BadRequest, Unprocessable
from discue.domain.ids import is_public_id
from discue.domain.model import Listener, Queue
from discue.domain.reservations import HTML_PAGE
from discue.store.aliases import OFFERED_KINDS, NamedMatch, OfferedKind
from discue.store.pagination import Selection


async def show(visit: Visit) -> Page | Redirect:
    text = visit.query.get("q", "").strip()
    values: dict[str, Any] = {"q": text, "qualifiers": QUALIFIERS, "problem": "", "found": Found(), "list": None}
    values |= {"offered": (), "key": ""}
    try:
        asked = parse_search(text, visit.now)
        if asked.status:
            return await _attempts(visit, asked)
        if asked.is_about_messages:
            values["list"] = await _messages(visit, asked)
            items = values["list"].items
            values["glances"] = await messages.glances(visit.control, visit.principal, items, PREVIEW_BYTES)
        elif text:
            found = await _found(visit, asked)
            if path := _only_path(found):
                return Redirect(path)
            own, ids = visit.principal.organization, [each.id for each in found.listeners]
            values |= {
                "found": found,
                "failures": await messages.last_failures_of_listeners(visit.control, own, ids),
                "glances": await messages.glances(visit.control, visit.principal, found.messages, PREVIEW_BYTES),
            }
            if found == Found():
                offered = await _offers(visit, asked)
                named = [each for each in offered if asked.text in {each.alias, each.public_id}]
                if len(named) == 1:
                    return Redirect(_path_of(named[0]))
                values |= {"offered": [(each, _path_of(each)) for each in offered]}
                values |= {"key": "" if is_public_id(asked.text) else asked.text}
    except (BadRequest, Unprocessable) as error:
        values["problem"] = error.detail
    return Page("search.html", "Search", values)


async def _found(visit: Visit, asked: Search) -> Found:
    """Find what has the id or the name; with a qualifier, only a queue or a listener."""
    if asked.text:
        return await search.find(visit.control, visit.principal, asked.text)
    if asked.listener:
        return await search.find(visit.control, visit.principal, asked.listener, ["listeners"])
    return await search.find(visit.control, visit.principal, asked.queue, ["queues"])


async def _offers(visit: Visit, asked: Search) -> Sequence[NamedMatch]:
    """Return what to offer in place of a queue, a listener or a message: other resources, or names that begin so."""
    if is_public_id(asked.text):
        return await search.others_with_id(visit.control, visit.principal, asked.text)
    kinds: Sequence[OfferedKind] = OFFERED_KINDS
    if not asked.text:
        kinds = ["listener"] if asked.listener else ["queue"]
    name = asked.text or asked.listener or asked.queue
    return await search.beginning_with(visit.control, visit.principal, name, kinds)


def _path_of(match: NamedMatch) -> str:
    if match.queue:
        return f"/queues/{match.queue}/{match.kind}s/{match.public_id}"
    return f"/{match.kind}s/{match.public_id}"


def _only_path(found: Found) -> str:
    """Return the path of the only result; "" if there are none or several."""
    paths = [f"/queues/{each.public_id}" for each in found.queues]
    paths += [f"/queues/{each.queue_public_id}/listeners/{each.public_id}" for each in found.listeners]
    paths += [f"/queues/{each.queue_public_id}/messages/{each.id}" for each in found.messages]
    return paths[0] if len(paths) == 1 else ""


async def _attempts(visit: Visit, asked: Search) -> Redirect:
    """Lead to the attempts of the listener. Raises BadRequest if none has the name."""
    listener = await _listener(visit, asked.listener, asked.queue)
    return Redirect(f"/queues/{listener.queue_public_id}/listeners/{listener.public_id}?status={asked.status}#attempts")


async def _messages(visit: Visit, asked: Search) -> ShownList:
    """Return messages, of one queue or of all. Raises BadRequest for a queue or a listener that does not exist."""
    listener = await _listener(visit, asked.listener, asked.queue) if asked.listener else None
    queue = await _queue(visit, asked.queue) if asked.queue and listener is None else None
    asked_for = {
        "per_page": PER_PAGE,
        "alias": asked.text or None,
        "key": asked.key or None,
        "state": asked.state or None,
        "created_after": asked.since - 1 if asked.since else None,
        "listener": None if listener is None else listener.public_id,
    }
    position = {name: visit.query[name] for name in ("after", "before") if is_position(visit.query.get(name, ""))}
    selection = msgspec.convert({**asked_for, **position}, Selection)
    if queue is not None:
        found = await messages.page_of_queue(visit.control, visit.principal, queue, selection)
    else:
        found = await messages.page(visit.control, visit.principal, selection)
    return shown(visit, found, [each.id for each in found.items], "q")


async def _queue(visit: Visit, name: str) -> Queue:
    """Return the queue with an id or a name. Raises BadRequest unless there is exactly one."""
    found = (await search.find(visit.control, visit.principal, name, ["queues"])).queues
    if len(found) != 1:
        raise await _not_one(visit, "queue", name, len(found))
    return found[0]


async def _listener(visit: Visit, name: str, queue: str) -> Listener:
    """Return the listener with an id or a name, in a queue if one is named. Raises BadRequest unless there is one."""
    found = (await search.find(visit.control, visit.principal, name, ["listeners"])).listeners
    if found and queue:
        within = tuple(each for each in found if queue in {each.queue_public_id, each.queue_alias})
        if not within and len(found) < search.SHOWN:
            await _queue(visit, queue)
            raise BadRequest(f'Queue "{queue}" has no listener called "{name}".', code="invalid_parameter")
        found = within or found
    if len(found) != 1:
        raise await _not_one(visit, "listener", name, len(found))
    return found[0]


async def _not_one(visit: Visit, kind: OfferedKind, name: str, count: int) -> BadRequest:
    if count:
        return BadRequest(f'Several {kind}s are called "{name}": use the id of one.', code="invalid_parameter")
    names = [each.alias for each in await search.beginning_with(visit.control, visit.principal, name, [kind])]
    hint = f" Did you mean {' or '.join(dict.fromkeys(names))}?" if names else ""
    return BadRequest(f'No {kind} is called "{name}".{hint}', code="invalid_parameter")


ROUTES: Final = (PageRoute("/search", show, reads=HTML_PAGE),)

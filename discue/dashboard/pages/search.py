"""Search: any resource by its id or name, and messages and attempts by qualifiers such as `key:customer-9`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from discue.control import messages, search
from discue.control.search import KINDS, Found, Kind
from discue.dashboard.fields import instant_of
from discue.dashboard.formats import PREVIEW_BYTES
from discue.dashboard.listing import STATES, STATUS_RULE, ShownList, is_status, selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit
from discue.domain.errors import BadRequest, DiscueError, Unprocessable
from discue.domain.ids import is_public_id
from discue.domain.model import Listener, Queue
from discue.domain.suggestions import suggestion
from discue.store.aliases import OFFERED_KINDS, NamedMatch, OfferedKind

QUALIFIERS: Final[Mapping[str, str]] = {
    "key": "messages with this key, such as key:customer-9",
    "queue": "a queue, by its name or id, such as queue:orders",
    "listener": "a listener, by its name or id, such as listener:billing",
    "state": "messages in this state: pending, retrying, missed, acknowledged or no_listeners",
    "status": "attempts that were answered with this status, such as status:503 or status:5xx; needs listener:",
    "since": "messages published after this time, such as since:2h, since:3d or since:2026-07-01",
}
"""The qualifiers, with their meaning: only what an index finds."""

_LONGEST: Final = 500
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Search(msgspec.Struct, frozen=True):
    """The text of a search, parsed. Fields that it does not have are empty."""

    text: str = ""
    """A name or an id."""
    key: str = ""
    queue: str = ""
    listener: str = ""
    state: str = ""
    status: str = ""
    since: int = 0
    """Milliseconds since the epoch."""

    @property
    def name(self) -> str:
        """The name or id of what is searched for: with a qualifier, of a queue or a listener."""
        return self.text or self.listener or self.queue

    @property
    def kinds(self) -> Sequence[Kind]:
        if self.text:
            return KINDS
        return ("listeners",) if self.listener else ("queues",)


def parse_search(text: str, now: int) -> Search:
    """Parse the text of the search box. Raises BadRequest with a sentence about what is wrong."""
    fields: dict[str, str | int] = {}
    words: list[str] = []
    for word in text[:_LONGEST].split():
        name, colon, value = word.partition(":")
        if not colon:
            words.append(word)
        elif name not in QUALIFIERS:
            known = ", ".join(f"{each}:" for each in QUALIFIERS)
            hint = suggestion(name, tuple(QUALIFIERS))
            raise _wrong(f'"{name}:" is not a qualifier{hint.removesuffix("?")}. The qualifiers are {known}')
        elif not value:
            raise _wrong(f'"{name}:" needs a value right behind the colon')
        else:
            fields[name] = _value(name, value, now)
    if len(words) > 1:
        raise _wrong("Search for one name or id at a time; the data of messages is not searched")
    found = msgspec.convert({**fields, "text": " ".join(words)}, Search)
    if found.status and not found.listener:
        raise _wrong('"status:" needs a listener: add, for example, listener:billing')
    return found


def _value(name: str, value: str, now: int) -> str | int:
    if name == "since":
        return _since(value, now)
    if name == "state" and value not in STATES:
        raise _wrong(f'"state:" is one of {", ".join(STATES)}')
    if name == "status" and not is_status(value):
        raise _wrong(f'"status:" {STATUS_RULE}')
    return value


def _since(value: str, now: int) -> int:
    span = _SPAN.fullmatch(value)
    if span is not None:
        return max(1, now - int(span[1]) * _SECONDS[span[2]] * 1_000)
    try:
        return max(1, instant_of(value, "?q"))
    except DiscueError:
        raise _wrong('"since:" is a time such as 2026-07-01, or a span such as 30m, 2h, 3d or 1w') from None


def _wrong(sentence: str) -> BadRequest:
    return BadRequest(f"{sentence}.", code="invalid_parameter")


async def show(visit: Visit) -> Page | Redirect:
    text = visit.query.get("q", "").strip()
    values: dict[str, Any] = {"q": text, "qualifiers": QUALIFIERS, "problem": "", "found": Found(), "list": None}
    values |= {"offered": (), "key": ""}
    try:
        asked = parse_search(text, visit.now)
        if asked.status:
            listener = await _listener(visit, asked.listener, asked.queue)
            path = f"/queues/{listener.queue_public_id}/listeners/{listener.public_id}"
            return Redirect(f"{path}?status={asked.status}#attempts")
        if asked.key or asked.state or asked.since:
            values["list"] = await _messages(visit, asked)
            items = values["list"].items
            values["glances"] = await messages.glances(visit.control, visit.principal, items, PREVIEW_BYTES)
        elif text:
            found = await search.find(visit.control, visit.principal, asked.name, asked.kinds)
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


async def _offers(visit: Visit, asked: Search) -> Sequence[NamedMatch]:
    """Return what to offer in place of a queue, a listener or a message: other resources, or names that begin so."""
    if is_public_id(asked.text):
        return await search.others_with_id(visit.control, visit.principal, asked.text)
    kinds: Sequence[OfferedKind] = OFFERED_KINDS
    if not asked.text:
        kinds = ["listener"] if asked.listener else ["queue"]
    return await search.beginning_with(visit.control, visit.principal, asked.name, kinds)


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


async def _messages(visit: Visit, asked: Search) -> ShownList:
    """Return messages, of one queue or of all. Raises BadRequest for a queue or a listener that does not exist."""
    listener = await _listener(visit, asked.listener, asked.queue) if asked.listener else None
    queue = await _queue(visit, asked.queue) if asked.queue and listener is None else None
    selection = msgspec.structs.replace(
        selection_of(visit),
        alias=asked.text or None,
        key=asked.key or None,
        state=asked.state or None,
        created_after=asked.since or None,
        listener=None if listener is None else listener.public_id,
    )
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


ROUTES: Final = (PageRoute("/search", show),)

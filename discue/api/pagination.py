"""Lists in pages: what the query asks for, and the links to the pages beside it."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, get_args
from urllib.parse import urlencode

from msgspec.structs import replace

from discue.api.links import Links, LinkTarget, links_of
from discue.api.query import LONGEST_NUMBER, Parameters, id_in, number_in, parameters_of, single_in, wrong
from discue.api.route import Call
from discue.domain.attempts import AttemptState
from discue.domain.model import MISSED_REASONS, DeliveryState
from discue.store.pagination import FIRST_PAGE, Listing, Selection

T = TypeVar("T")

LARGEST_PAGE = 100
_LAST_PAGE = 10**LONGEST_NUMBER - 1
_LONGEST_TIME = 15
_LONGEST_ALIAS = 254
_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
_LISTED: tuple[DeliveryState, ...] = tuple(state for state in _STATES if state != "filtered")
"""What lists of messages can be asked for: what a filter did not let through has left nothing to find it by."""

_OUTCOMES: tuple[AttemptState, ...] = get_args(AttemptState)
_STATUS = re.compile(r"0|[1-9][0-9]{2}|[1-9]xx")
_WORDS = {"outcome": "state"}
"""The parameters that are called otherwise in a selection."""


def selection_of(query: str, *, of_messages: bool = False) -> Selection:
    """What the query selects of a list. Raises BadRequest naming the parameter.

    Only lists `of_messages` are filtered by `listener` and `state`.
    """
    if not query:
        return FIRST_PAGE
    parameters = parameters_of(query)
    listener, state = _delivery_in(parameters) if of_messages else (None, None)
    return replace(_pages_in(parameters), alias=_alias_in(parameters), listener=listener, state=state)


def selection_of_attempts(query: str, *, of_message: bool) -> Selection:
    """The same of a list of attempts, which have no alias. Only those of a message are filtered by `listener`."""
    parameters = parameters_of(query)
    return replace(
        _pages_in(parameters),
        outcome=_one_of(parameters, "state", _OUTCOMES),
        status=_status_in(parameters),
        listener=id_in(parameters, "listener") if of_message else None,
    )


def selection_of_deliveries(query: str) -> Selection:
    """The same of a list of deliveries, which have no alias either."""
    parameters = parameters_of(query)
    return replace(_pages_in(parameters), state=_one_of(parameters, "state", _STATES))


def selection_of_missed(query: str) -> Selection:
    """The same of what a listener has missed."""
    parameters = parameters_of(query)
    return replace(_pages_in(parameters), reason=_one_of(parameters, "reason", MISSED_REASONS))


def _pages_in(parameters: Parameters) -> Selection:
    return Selection(
        per_page=number_in(parameters, "per_page", FIRST_PAGE.per_page, LARGEST_PAGE),
        page=number_in(parameters, "page", 1, _LAST_PAGE),
        after=id_in(parameters, "after"),
        before=id_in(parameters, "before"),
        created_after=_time_in(parameters, "created_after"),
        created_before=_time_in(parameters, "created_before"),
    )


def _one_of(parameters: Parameters, name: str, words: Sequence[T]) -> T | None:
    text = single_in(parameters, name)
    if text is None:
        return None
    known = next((word for word in words if word == text), None)
    if known is None:
        raise wrong(name, f"must be one of {', '.join(map(str, words))}")
    return known


def _status_in(parameters: Parameters) -> str | None:
    status = single_in(parameters, "status")
    if status is not None and _STATUS.fullmatch(status) is None:
        raise wrong("status", "must be a status such as 503, a class of them such as 5xx, or 0")
    return status


def _delivery_in(parameters: Parameters) -> tuple[str | None, DeliveryState | None]:
    listener, state = id_in(parameters, "listener"), _one_of(parameters, "state", _LISTED)
    if state is not None and listener is None:
        raise wrong("state", "needs the parameter listener: a message has a state for each listener")
    return listener, state


def _alias_in(parameters: Parameters) -> str | None:
    alias, name = (_text_in(parameters, each) for each in ("alias", "name"))
    if None not in (alias, name) and alias != name:
        raise wrong("name", "is a synonym of alias, and has another value")
    return name if alias is None else alias


def _text_in(parameters: Parameters, name: str) -> str | None:
    text = single_in(parameters, name)
    if text is not None and (not 1 <= len(text) <= _LONGEST_ALIAS or "\0" in text):
        raise wrong(name, f"must have 1 to {_LONGEST_ALIAS} characters")
    return text


def _time_in(parameters: Parameters, name: str) -> int | None:
    text = single_in(parameters, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_TIME):
        raise wrong(name, "must be a time in milliseconds since the epoch")
    return int(text)


async def paged(
    call: Call,
    fetch: Callable[[Selection], Awaitable[Listing[T]]],
    named: Callable[[T], LinkTarget],
    *,
    of_messages: bool = False,
    selection: Selection | None = None,
) -> tuple[tuple[T, ...], Links]:
    """The page that a request asks for, and its links; adds the Link header (RFC 8288).

    `selection` is what the query was read as, where that is not the same as of other lists.
    """
    if selection is None:
        selection = selection_of(call.query, of_messages=of_messages)
    listing = await fetch(selection)
    below = [named(item) for item in listing.items]
    after = listing.resumes_after or (below[-1].id if below and listing.has_next else None)
    before = listing.resumes_before or (below[0].id if below and listing.has_previous else None)
    following = call.url + _neighbour(selection, "after", after) if after else None
    preceding = call.url + _neighbour(selection, "before", before) if before else None
    relations = (("next", following), ("prev", preceding))
    header = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in relations if url is not None)
    if header:
        call.headers.append(("link", header))
    url = call.url + _query_of(selection)
    return listing.items, links_of(url, below, following=following, preceding=preceding)


def _neighbour(selection: Selection, side: str, place: str) -> str:
    """The query of the page beside this one: with the same filters."""
    filters = replace(selection, per_page=FIRST_PAGE.per_page, page=1, after=None, before=None)
    return f"?per_page={selection.per_page}&{side}={place}{_query_of(filters).replace('?', '&', 1)}"


def _query_of(selection: Selection) -> str:
    """The selection as its shortest query."""
    given = {name: getattr(selection, name) for name in selection.__struct_fields__}
    asked = {_WORDS.get(name, name): value for name, value in given.items() if value != getattr(FIRST_PAGE, name)}
    return f"?{urlencode(asked)}" if asked else ""

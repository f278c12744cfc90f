"""Hypermedia: the `_links` of responses, all of them absolute."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from discue.api.rsgi import HttpHeaders, HttpScope
from discue.domain.errors import BadRequest

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_REMEMBERED = 1_024
# Also where a response has no such page: a client that follows `next` must not come to a queue of that name.
_RESERVED = frozenset({"self", "next", "prev"})


class Link(msgspec.Struct, frozen=True):
    """One entry of `_links`."""

    href: str


Links = dict[str, Link]


class LinkTarget(NamedTuple):
    """A sub-resource that a response links to."""

    alias: str
    id: str
    url: str


def link_to(url: str) -> Links:
    """The links of a response that has nothing below it."""
    return {"self": Link(url)}


def links_of(
    url: str, below: Iterable[LinkTarget] = (), *, following: str | None = None, preceding: str | None = None
) -> Links:
    """`self`, `next` and `prev`, then one entry for each of `below`.

    An entry is keyed by its alias, or by its id where that key is taken: `self`, `next` and `prev` always
    are, and earlier entries win over later ones.
    """
    links = link_to(url)
    if following is not None:
        links["next"] = Link(following)
    if preceding is not None:
        links["prev"] = Link(preceding)
    for entry in below:
        taken = entry.alias in links or entry.alias in _RESERVED
        links.setdefault(entry.id if taken else entry.alias, Link(entry.url))
    return links


def base_of(scope: HttpScope, headers: HttpHeaders) -> str:
    """The scheme and host by which the client reached us. Raises BadRequest if that is no host."""
    host = scope.authority or headers.get("host") or scope.server
    return _base(scope.scheme, host)


@lru_cache(_REMEMBERED)
def _base(scheme: str, host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header is not a host.")
    return f"{scheme}://{host}"

"""Finding a route: a tree of the steps of paths, one lookup a step."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from discue.api.bodies import Body
from discue.api.decoding import BodyDecoder
from discue.api.route import Limit, Needs, Route
from discue.domain.errors import MethodNotAllowed, NotFound
from discue.domain.ids import is_public_id

_REMEMBERED = 4_096
_VERSION = "/v1"
_AFTER_VERSION = frozenset({"/", ""})
_SCHEMA_ID = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(r"[1-5][0-9]{2}")

_FORMS: Mapping[str, Callable[[str], object]] = {
    "{schema_id}": _SCHEMA_ID.fullmatch,
    "{status}": _STATUS.fullmatch,
}
"""The names in braces that do not stand for the id of a resource."""


class CompiledRoute:
    """A route made ready to serve."""

    __slots__ = (
        "changes",
        "creates",
        "decode",
        "events",
        "handler",
        "has_etag",
        "limit",
        "media_type",
        "needs",
        "publishes",
        "route",
        "streams",
        "takes_body",
    )

    def __init__(self, route: Route) -> None:
        self.route = route
        self.handler = route.handler
        self.needs: Needs | None = route.needs
        self.decode = BodyDecoder[Body](route.request).decode
        self.takes_body = route.takes_body
        self.creates = route.creates
        self.changes = route.changes
        self.has_etag = route.is_single_resource or route.creates
        self.limit: Limit | None = route.limit
        self.publishes = route.publishes
        self.events = route.events
        self.media_type = route.media_type
        self.streams = route.streams


class Match(NamedTuple):
    """Where a request leads. `version` is "/v1" or empty, `path` what follows it."""

    endpoint: CompiledRoute
    ids: tuple[str, ...]
    version: str
    path: str


class _Node:
    __slots__ = ("endpoints", "id", "steps", "takes")

    def __init__(self) -> None:
        self.steps: dict[str, _Node] = {}
        self.id: _Node | None = None
        self.takes: Callable[[str], object] = is_public_id
        self.endpoints: dict[str, CompiledRoute] = {}


class Router:
    """Finds routes: `find(method, path)`. A step of a template in braces takes anything of its form, mostly an id's."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Raises ValueError when two routes claim the same method and path."""
        self._root = _Node()
        for route in routes:
            self._add(route)
        # Clients publish to the same few paths; only what leads somewhere is remembered.
        self.find = lru_cache(_REMEMBERED)(self._find)

    def _add(self, route: Route) -> None:
        node = self._root
        for step in route.path.split("/")[1:]:
            node = _below(node, step)
        endpoint = CompiledRoute(route)
        for method in ("HEAD", *route.methods) if "GET" in route.methods else route.methods:
            if node.endpoints.setdefault(method, endpoint) is not endpoint:
                raise ValueError(f"Two routes for {method} {route.path}")

    def _find(self, method: str, path: str) -> Match:
        """Raises NotFound, or MethodNotAllowed with the methods that are."""
        version = ""
        if path.startswith(_VERSION) and path[3:4] in _AFTER_VERSION:
            version, path = _VERSION, path[3:] or "/"
        node = self._root
        ids: list[str] = []
        for step in path.split("/")[1:]:
            following = node.steps.get(step)
            if following is None:
                following = node.id
                if following is None or not following.takes(step):
                    raise NotFound
                ids.append(step)
            node = following
        return Match(_endpoint(node, method), tuple(ids), version, path)


def _below(node: _Node, step: str) -> _Node:
    if not step.startswith("{"):
        return node.steps.setdefault(step, _Node())
    if node.id is None:
        node.id = _Node()
        node.id.takes = _FORMS.get(step, is_public_id)
    return node.id


def _endpoint(node: _Node, method: str) -> CompiledRoute:
    endpoint = node.endpoints.get(method)
    if endpoint is None:
        if not node.endpoints:
            raise NotFound
        raise MethodNotAllowed(allow=tuple(sorted(node.endpoints)))
    return endpoint

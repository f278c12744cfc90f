"""The router: a tree of path steps, with one lookup per step."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from discue.api.decoding import BodyDecoder
from discue.api.route import Route
from discue.api.structs import SCHEMA_ID, Body
from discue.domain.errors import MethodNotAllowed, NotFound
from discue.domain.ids import is_public_id

_CACHED_PATHS: Final = 4_096
_SHOWN_PATH: Final = 200
_VERSION: Final = "/v1"
_AFTER_VERSION: Final = frozenset({"/", ""})

_FORMS: Final[Mapping[str, Callable[[str], object]]] = {
    "{schema_id}": re.compile(SCHEMA_ID).fullmatch,
    "{status}": re.compile(r"[1-5][0-9]{2}").fullmatch,
}
"""The steps in braces that are not the id of a resource."""


class CompiledRoute:
    """A route with what serving it needs, computed once."""

    __slots__ = ("changes", "creates", "decode", "has_etag", "row", "takes_body")

    def __init__(self, route: Route) -> None:
        self.row = route
        self.decode = BodyDecoder[Body](route.request).decode
        self.takes_body = route.takes_body
        self.creates = route.creates
        self.changes = route.changes
        self.has_etag = route.is_single_resource or route.creates


class Match(NamedTuple):
    """The route of a request."""

    route: CompiledRoute
    ids: tuple[str, ...]
    version: str
    """`/v1` or empty."""
    path: str
    """The path without the version."""


class _Node:
    __slots__ = ("id", "matches", "routes", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, _Node] = {}
        self.id: _Node | None = None
        self.matches: Callable[[str], object] = is_public_id
        """Checks the step that leads to this node, if it is in braces."""
        self.routes: dict[str, CompiledRoute] = {}


class Router:
    """Finds the route of a request with `find(method, path)`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        """Raises ValueError if two routes have the same method and path."""
        self._root = _Node()
        for route in routes:
            self._add(route)
        # Clients publish to few paths. Errors are not cached: unknown paths must not evict the ones in use.
        self.find = lru_cache(_CACHED_PATHS)(self._find)

    def _add(self, route: Route) -> None:
        node = self._root
        for step in route.path.split("/")[1:]:
            if not step.startswith("{"):
                node = node.steps.setdefault(step, _Node())
                continue
            if node.id is None:
                node.id = _Node()
                node.id.matches = _FORMS.get(step, is_public_id)
            node = node.id
        compiled = CompiledRoute(route)
        for method in ("HEAD", *route.methods) if "GET" in route.methods else route.methods:
            if node.routes.setdefault(method, compiled) is not compiled:
                raise ValueError(f"Two routes for {method} {route.path}")

    def _find(self, method: str, path: str) -> Match:
        """Raises NotFound, and MethodNotAllowed with the allowed methods."""
        version, rest = "", path
        if path.startswith(_VERSION) and path[3:4] in _AFTER_VERSION:
            version, rest = _VERSION, path[3:] or "/"
        node = self._root
        ids: list[str] = []
        for step in rest.split("/")[1:]:
            following = node.steps.get(step)
            if following is None:
                following = node.id
                if following is None or not following.matches(step):
                    raise _no_route(method, path)
                ids.append(step)
            node = following
        if not node.routes:
            raise _no_route(method, path)
        route = node.routes.get(method)
        if route is None:
            allowed = tuple(sorted(node.routes))
            raise MethodNotAllowed(f"{method} is not supported here. Allowed: {', '.join(allowed)}.", allow=allowed)
        return Match(route, tuple(ids), version, rest)


def _no_route(method: str, path: str) -> NotFound:
    shown = path[:_SHOWN_PATH].encode(errors="replace").decode()
    return NotFound(f"No route for {method} {shown}.")

"""The router: finds the route of a request by its method and path, in which names can stand for ids."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from discue.api.decoding import BodyDecoder
from discue.api.pagination import PRETTY
from discue.api.route import VERSION, Route
from discue.api.structs import ERROR_CODE, PAGE_NAME, SCHEMA_ID, Body
from discue.api.unknown_paths import no_route
from discue.domain.aliases import check_alias, check_organization_alias, is_path_name
from discue.domain.errors import MethodNotAllowed
from discue.domain.ids import is_public_id
from discue.store.aliases import NAMED_KINDS, NamedKind

_CACHED_PATHS: Final = 4_096
_AFTER_VERSION: Final = frozenset({"/", ""})

NAMED: Final[Mapping[str, NamedKind]] = {f"{{{kind}_id}}": kind for kind in NAMED_KINDS}
"""The steps in braces for which the alias of the resource can stand, too."""

_FORMS: Final[Mapping[str, Callable[[str], object]]] = {
    "{schema_id}": re.compile(SCHEMA_ID).fullmatch,
    "{page}": re.compile(PAGE_NAME).fullmatch,
    "{part}": re.compile(PAGE_NAME).fullmatch,
    "{code}": re.compile(ERROR_CODE).fullmatch,
}
"""The steps in braces that are not the id of a resource."""


class CompiledRoute:
    """A route with what serving it needs, computed once."""

    __slots__ = (
        "below",
        "changes",
        "creates",
        "decode",
        "has_etag",
        "kinds",
        "maker",
        "operation",
        "parameters",
        "publishes",
        "reads",
        "row",
        "takes_body",
    )

    def __init__(self, route: Route) -> None:
        self.row = route
        self.decode = BodyDecoder[Body](route.request).decode
        self.takes_body = route.takes_body
        self.publishes = route.publishes
        self.operation = route.operation
        self.reads = route.reads
        self.creates = route.creates
        self.changes = route.changes
        self.parameters = frozenset({PRETTY.name, *(parameter.name for parameter in route.query)})
        """The names of the query parameters that it knows."""
        self.has_etag = route.is_single_resource or route.creates
        self.kinds = tuple(NAMED.get(step) for step in route.path.split("/") if step.startswith("{"))
        """The kind of each step in braces; None if only ids can stand there."""
        self.maker: CompiledRoute | None = None
        """The route that creates what `PUT` on this one names, if no resource has that name."""
        self.below: Collection[str] = ()
        """The fixed steps that can follow the path."""

    def path_of(self, ids: Sequence[str]) -> str:
        """Return the path of a request that names its resources by these ids."""
        left = iter(ids)
        return "/".join(next(left) if step.startswith("{") else step for step in self.row.path.split("/"))


class Match(NamedTuple):
    """The route of a request."""

    route: CompiledRoute
    ids: tuple[str, ...]
    version: str
    """`/v1` or empty."""
    path: str
    """The path without the version."""
    has_names: bool = False
    """Whether a step names its resource by an alias, with ids still to be found."""
    name: str = ""
    """The alias of what is to be created or published to."""
    creates_named: bool = False
    """Whether it creates what `PUT` names and does not exist."""
    missing: str = ""
    """A sentence about an alias in the path that names nothing; empty if there is none, as far as is known."""


class _Node:
    __slots__ = ("id", "matches", "named", "routes", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, _Node] = {}
        self.id: _Node | None = None
        self.matches: Callable[[str], object] = is_public_id
        """Checks the step that leads to this node, if it is in braces."""
        self.named = False
        """Whether the alias of a resource can lead to this node."""
        self.routes: dict[str, CompiledRoute] = {}

    def name_in(self, steps: Sequence[str]) -> Sequence[str]:
        """Return the first steps if they are an alias that leads to this node; empty if they are not.

        The path is percent-decoded, so a slash in an alias looks like any other. An alias therefore ends before the
        first step that continues the path.
        """
        if not self.named:
            return ()
        end = next((index for index, step in enumerate(steps) if index and step in self.steps), len(steps))
        return steps[:end] if is_path_name(steps[:end]) else ()

    def require_alias(self, steps: Sequence[str]) -> None:
        """Raise Unprocessable if `PUT` on these last steps of a path would create what they name, but for its alias."""
        route = self.routes.get("PUT")
        is_below = any(step in self.steps for step in steps[1:])
        if route is None or route.maker is None or is_below or not {"", ".", ".."}.isdisjoint(steps):
            return
        if any(map(is_public_id, steps)):
            return
        check = check_organization_alias if route.kinds[-1] == "organization" else check_alias
        check("/".join(steps))


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
        node = above = self._root
        for step in route.path.split("/")[1:]:
            above = node
            if not step.startswith("{"):
                node = node.steps.setdefault(step, _Node())
                continue
            if node.id is None:
                node.id = _Node()
                node.id.matches = _FORMS.get(step, is_public_id)
                node.id.named = step in NAMED
            node = node.id
        compiled = CompiledRoute(route)
        compiled.below = node.steps
        if node.named and "PUT" in route.methods:
            compiled.maker = above.routes.get("PUT")
        for method in ("HEAD", *route.methods) if "GET" in route.methods else route.methods:
            if node.routes.setdefault(method, compiled) is not compiled:
                raise ValueError(f"Two routes for {method} {route.path}")

    def _find(self, method: str, path: str) -> Match:
        """Raises NotFound, MethodNotAllowed with the allowed methods, and Unprocessable for an invalid alias."""
        version, rest = "", path
        if path.startswith(VERSION) and path[3:4] in _AFTER_VERSION:
            version, rest = VERSION, path[3:] or "/"
        node = self._root
        ids: list[str] = []
        has_names = False
        steps = rest.split("/")[1:]
        at = 0
        while at < len(steps):
            step, length = steps[at], 1
            # A fixed step wins over an id, so `/messages/batch` is never the message `batch`.
            following = node.steps.get(step)
            if following is None:
                following = node.id
                is_id = following is not None and bool(following.matches(step))
                name = () if following is None or is_id else following.name_in(steps[at:])
                if following is None or not (is_id or name):
                    if following is not None and method == "PUT":
                        following.require_alias(steps[at:])
                    takes_id = following is not None and following.matches is is_public_id and not following.named
                    wrong, ends_here = bool(version) + 1 + at, bool(node.routes)
                    raise no_route(method, path, wrong, node.steps, ends_here=ends_here, takes_id=takes_id)
                if name:
                    step, has_names, length = "/".join(name), True, len(name)
                ids.append(step)
            node = following
            at += length
        if not node.routes:
            raise no_route(method, path, bool(version) + 1 + at, node.steps)
        route = node.routes.get(method)
        if route is None:
            allowed = tuple(sorted(node.routes))
            raise MethodNotAllowed(f"{method} is not supported here. Allowed: {', '.join(allowed)}.", allow=allowed)
        return Match(route, tuple(ids), version, rest, has_names)

"""The router: finds the route of a request by its method and path, in which names can stand for ids."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from discue.api.route import NAMED, VERSION, Route
from discue.api.structs import ERROR_CODE, PAGE_NAME, SCHEMA_ID, ResourceBody, text_given
from discue.auth.control_plane_cache import PublishedKind
from discue.control import search
from discue.control.context import ControlContext
from discue.control.search import UNKNOWN, PathStep
from discue.domain.aliases import check_alias, check_organization_alias, is_path_name
from discue.domain.errors import REASONS, MethodNotAllowed, NotFound, invalid
from discue.domain.event_types import check_type, is_type
from discue.domain.ids import is_public_id
from discue.domain.scopes import Principal
from discue.domain.suggestions import nearest

_CACHED_PATHS: Final = 4_096
_AFTER_VERSION: Final = frozenset({"/", ""})
_SHOWN_PATH: Final = 200
_VERSION: Final = re.compile(r"v[0-9]{1,3}")

_FORMS: Final[Mapping[str, Callable[[str], object]]] = {
    "{schema_id}": re.compile(SCHEMA_ID).fullmatch,
    "{page}": re.compile(PAGE_NAME).fullmatch,
    "{part}": re.compile(PAGE_NAME).fullmatch,
    "{code}": re.compile(ERROR_CODE).fullmatch,
}
"""The steps in braces that are not the id of a resource."""


_CHECKS: Final[Mapping[str | None, Callable[[str], None]]] = {
    "organization": check_organization_alias,
    "event_type": partial(check_type, pointer="/type"),
}
"""Name checks of the kinds of resources whose names are not ordinary aliases."""

_EVENT_TYPE: Final = "{event_type_id}"


class Match(NamedTuple):
    """The route of a request."""

    route: Route
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
    maker: Route | None = None
    """The route that creates what `PUT` on this one names, if no resource has that name."""
    below: Collection[str] = ()
    """The fixed steps that can follow the path."""

    def absent(self) -> NotFound:
        """Return the error for a path that names something that does not exist, with the ids as the client gave them.

        It is the same if a resource above does not exist, or belongs to another organization.
        """
        steps = [step for step in self.route.path.split("/") if step.startswith("{")]
        named = [f'{_noun(step[1:-1])} "{text}"' for step, text in zip(steps, self.ids, strict=True)]
        sentence = " of ".join(reversed(named)) + " not found."
        return NotFound(f"{sentence[:1].upper()}{sentence[1:]} {REASONS['not_found'].remedy}")


@dataclass(eq=False, slots=True)
class _Node:
    steps: dict[str, "_Node"] = field(default_factory=dict)
    id: "_Node | None" = None
    matches: Callable[[str], object] = is_public_id
    """Checks the step that leads to this node, if it is in braces."""
    is_name: Callable[[Sequence[str]], bool] | None = None
    """Checks steps of a path that may be the alias of a resource; None if no alias can lead to this node."""
    routes: dict[str, Route] = field(default_factory=dict)
    maker: Route | None = None

    def name_in(self, steps: Sequence[str]) -> Sequence[str]:
        """Return the first steps if they are an alias that leads to this node; empty if they are not.

        The path is percent-decoded, so a slash in an alias looks like any other. An alias therefore ends before the
        first step that continues the path.
        """
        if self.is_name is None:
            return ()
        end = next((index for index, step in enumerate(steps) if index and step in self.steps), len(steps))
        return steps[:end] if self.is_name(steps[:end]) else ()

    def require_alias(self, steps: Sequence[str]) -> None:
        """Raise Unprocessable if `PUT` on these last steps of a path would create what they name, but for its alias."""
        route = self.routes.get("PUT")
        is_below = any(step in self.steps for step in steps[1:])
        if route is None or self.maker is None or is_below or not {"", ".", ".."}.isdisjoint(steps):
            return
        if any(map(is_public_id, steps)):
            return
        _CHECKS.get(route.kinds[-1], check_alias)("/".join(steps))


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
                if step in NAMED:
                    node.id.is_name = _is_type_name if step == _EVENT_TYPE else is_path_name
            node = node.id
        if node.is_name and "PUT" in route.methods:
            node.maker = above.routes.get("PUT")
        for method in ("HEAD", *route.methods) if "GET" in route.methods else route.methods:
            if method in node.routes:
                raise ValueError(f"Two routes for {method} {route.path}")
            node.routes[method] = route

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
                    takes_id = following is not None and following.matches is is_public_id and following.is_name is None
                    wrong, ends_here = bool(version) + 1 + at, bool(node.routes)
                    raise _no_route(method, path, wrong, node.steps, ends_here=ends_here, takes_id=takes_id)
                if name:
                    step, has_names, length = "/".join(name), True, len(name)
                ids.append(step)
            node = following
            at += length
        if not node.routes:
            raise _no_route(method, path, bool(version) + 1 + at, node.steps)
        route = node.routes.get(method)
        if route is None:
            allowed = tuple(sorted(node.routes))
            raise MethodNotAllowed(f"{method} is not supported here. Allowed: {', '.join(allowed)}.", allow=allowed)
        return Match(route, tuple(ids), version, rest, has_names, maker=node.maker, below=node.steps)


def _is_type_name(steps: Sequence[str]) -> bool:
    """Return whether these steps of a path are a type, which may have more characters than an alias."""
    return is_type("/".join(steps))


def _no_route(
    method: str, path: str, wrong: int, known: Iterable[str], *, ends_here: bool = False, takes_id: bool = False
) -> NotFound:
    """Return the error for a path.

    `wrong` is the index of its first wrong step in `path.split("/")`, and `known` are those that could stand there.
    `ends_here` says that the path without this step has a route, and `takes_id` that an id could stand there.
    """
    steps = path.split("/")
    step = steps[wrong] if wrong < len(steps) else ""
    right = nearest(step, known) or ("v1" if wrong == 1 and _VERSION.fullmatch(step) else "")
    way_out = ". /docs/api lists all paths."
    if right:
        way_out = f"; did you mean {_shown('/'.join([*steps[:wrong], right, *steps[wrong + 1 :]]))}?"
    elif ends_here and not step and wrong == len(steps) - 1:
        way_out = f"; did you mean {_shown('/'.join(steps[:wrong]))}?"
    elif takes_id and step:
        way_out = f': "{_shown(step)}" is not an id, which has 21 letters and digits.'
    return NotFound(f"No route for {method} {_shown(path)}{way_out}", code="no_route")


class PathNames:
    """Finds the resources that paths name by their aliases, among those of the caller's organization."""

    def __init__(self, control: ControlContext) -> None:
        self._control = control

    async def find(self, principal: Principal, given: Match, method: str, *, cached: bool = True) -> Match:
        """Return the request with ids for names, or the creation of what it names.

        A queue or topic to publish to may come from the cache, and have another name by now: publishing finds out.
        """
        route = given.route
        if route.publishes and cached:
            kind: PublishedKind = "topic" if route.kinds[0] == "topic" else "queue"
            found = await self._control.cache.id_of(principal.organization, kind, given.ids[0])
            ids: tuple[str, ...] = (found or UNKNOWN,)
        else:
            ids = await search.ids_of(self._control, principal, _steps(given))
        if UNKNOWN in ids:
            return self._missing(given, ids, method)
        # An id that is given wins over an equal alias, and is what it was.
        is_published_to = route.publishes and not is_public_id(given.ids[0])
        return _with_ids(given, route, ids, name=given.ids[0] if is_published_to else "")

    async def find_lookalikes(self, principal: Principal, given: Match) -> Match | None:
        """Return the request with ids for aliases that have the form of an id. None if there are no such aliases."""
        if not any(given.route.kinds):
            return None
        ids = await search.ids_of(self._control, principal, _steps(given), lookalikes=True)
        return None if ids == given.ids else _with_ids(given, given.route, ids)

    async def missing(self, principal: Principal, given: Match, named: Match) -> NotFound:
        """Return the error for an alias in the path that names nothing, with the way out.

        `named` is what `find` has returned for the path. It never suggests aliases that the caller may not list.
        """
        first = named.ids.index(UNKNOWN) if UNKNOWN in named.ids else len(given.ids) - 1
        step, sentence = _steps(given)[first], named.missing
        below = _misspelled_below(given, step.text)
        if below:
            return NotFound(f"{sentence.removesuffix('.')}; did you mean {below}?")
        close = await search.similar_alias(self._control, principal, step, named.ids[first - 1] if first else "")
        if close:
            return NotFound(f"{sentence.removesuffix('.')}{close}")
        return NotFound(f"{sentence} GET {_collection(given, first)} lists the {_noun(step.kind)}s.")

    def _missing(self, given: Match, ids: Sequence[str], method: str) -> Match:
        first = ids.index(UNKNOWN)
        word = _noun(given.route.kinds[first])
        detail = f'{word[:1].upper()}{word[1:]} "{given.ids[first]}" not found.'
        maker = given.maker
        if maker is None or method != "PUT" or first != len(ids) - 1:
            return _with_ids(given, given.route, ids, missing=detail)
        return _with_ids(given, maker, ids[:-1], name=given.ids[-1], missing=detail, creates_named=True)


def give_name(body: ResourceBody, name: str) -> None:
    """Give what a body creates the name that the path has for it. Raises Unprocessable if the body has another one."""
    for handle in body.handles:
        if text_given(getattr(body, handle)) not in (None, name):
            rule = f'must be "{name}", as in the path, to create what the path names'
            raise invalid(f"/{handle}", rule, code="conflicting_fields")
    setattr(body, body.handles[0], name)


def _noun(kind: str | None) -> str:
    """Return the word for a kind of resource, or for the name of a step in braces."""
    return str(kind).removesuffix("_id").replace("api_key", "API key").replace("_", " ")


def _steps(given: Match) -> list[PathStep]:
    return [PathStep(text, kind) for text, kind in zip(given.ids, given.route.kinds, strict=True)]


def _with_ids(given: Match, route: Route, ids: Sequence[str], **rest: Any) -> Match:
    return Match(route, tuple(ids), given.version, route.path_of(ids), **rest)


def _misspelled_below(given: Match, alias: str) -> str:
    """Return the path that was meant, if its unknown last part was taken for a part of the alias; "" if none is.

    `/queues/orders/message` is read as the queue `orders/message`.
    """
    steps = alias.split("/")
    if not given.path.endswith(alias):
        return ""
    for index, step in enumerate(steps[1:], 1):
        right = nearest(step, given.below)
        if right:
            meant = "/".join([*steps[:index], right, *steps[index + 1 :]])
            return f"{given.version}{given.path.removesuffix(alias)}{meant}"
    return ""


def _collection(given: Match, first: int) -> str:
    """Return the path that lists the resources of which one is named by the step in braces with this number."""
    ends = [index for index, step in enumerate(given.route.path.split("/")) if step.startswith("{")]
    path = given.route.path_of([quote(name, safe="") for name in given.ids])
    return given.version + "/".join(path.split("/")[: ends[first]])


def _shown(path: str) -> str:
    return path[:_SHOWN_PATH].encode(errors="replace").decode()

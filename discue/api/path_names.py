"""Aliases in paths: which resources they name, and the creation of what `PUT` names and does not exist."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from discue.api.router import CompiledRoute, Match
from discue.api.structs import NamedBody, names_given
from discue.auth.control_plane_cache import PublishedKind
from discue.control import aliases
from discue.control.aliases import UNKNOWN, PathStep
from discue.control.context import ControlContext
from discue.domain.errors import NotFound, invalid
from discue.domain.ids import is_public_id
from discue.domain.scopes import Principal
from discue.domain.suggestions import nearest


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
            ids = await aliases.ids_of(self._control, principal, _steps(given))
        if UNKNOWN in ids:
            return self._missing(given, ids, method)
        # An id that is given wins over an equal alias, and is what it was.
        is_published_to = route.publishes and not is_public_id(given.ids[0])
        return _with_ids(given, route, ids, name=given.ids[0] if is_published_to else "")

    async def find_lookalikes(self, principal: Principal, given: Match) -> Match | None:
        """Return the request with ids for aliases that have the form of an id. None if there are no such aliases."""
        if not any(given.route.kinds):
            return None
        ids = await aliases.ids_of_lookalikes(self._control, principal, _steps(given))
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
        close = await aliases.similar_alias(self._control, principal, step, named.ids[first - 1] if first else "")
        if close:
            return NotFound(f"{sentence.removesuffix('.')}{close}")
        return NotFound(f"{sentence} GET {_collection(given, first)} lists the {_word(step.kind)}s.")

    def _missing(self, given: Match, ids: Sequence[str], method: str) -> Match:
        first = ids.index(UNKNOWN)
        word = _word(given.route.kinds[first])
        detail = f'{word[:1].upper()}{word[1:]} "{given.ids[first]}" not found.'
        maker = given.route.maker
        if maker is None or method != "PUT" or first != len(ids) - 1:
            return _with_ids(given, given.route, ids, missing=detail)
        return _with_ids(given, maker, ids[:-1], name=given.ids[-1], missing=detail, creates_named=True)


def give_name(body: NamedBody, name: str) -> None:
    """Give what a body creates the name that the path has for it. Raises Unprocessable if the body has another one."""
    for field, value in names_given(body)._asdict().items():
        if value not in (None, name):
            raise invalid(
                f"/{field}",
                f'must be "{name}", as in the path, to create what the path names',
                code="conflicting_fields",
            )
    body.alias = name


def _word(kind: str | None) -> str:
    return str(kind).replace("api_key", "API key")


def _steps(given: Match) -> list[PathStep]:
    return [PathStep(text, kind) for text, kind in zip(given.ids, given.route.kinds, strict=True)]


def _with_ids(given: Match, route: CompiledRoute, ids: Sequence[str], **rest: Any) -> Match:
    return Match(route, tuple(ids), given.version, route.path_of(ids), **rest)


def _misspelled_below(given: Match, alias: str) -> str:
    """Return the path that was meant, if its unknown last part was taken for a part of the alias; "" if none is.

    `/queues/orders/message` is read as the queue `orders/message`.
    """
    steps = alias.split("/")
    if not given.path.endswith(alias):
        return ""
    for index, step in enumerate(steps[1:], 1):
        right = nearest(step, given.route.below)
        if right:
            meant = "/".join([*steps[:index], right, *steps[index + 1 :]])
            return f"{given.version}{given.path.removesuffix(alias)}{meant}"
    return ""


def _collection(given: Match, first: int) -> str:
    """Return the path that lists the resources of which one is named by the step in braces with this number."""
    names = iter(given.ids)
    steps: list[str] = []
    for step in given.route.row.path.split("/"):
        if step.startswith("{"):
            if first == 0:
                break
            first -= 1
            steps.append(quote(next(names), safe=""))
        else:
            steps.append(step)
    return given.version + "/".join(steps)

"""Aliases in paths: which resources they name, and the creation of what `PUT` names and does not exist."""

from collections.abc import Sequence
from typing import Any, Final

from discue.api.route import CompiledRoute, Match
from discue.api.structs import NamedBody, names_given
from discue.auth.control_plane_cache import PublishedKind
from discue.control import aliases
from discue.control.aliases import UNKNOWN, PathStep
from discue.control.context import ControlContext
from discue.domain.errors import invalid
from discue.domain.ids import is_public_id
from discue.domain.scopes import Principal

_WORDS: Final = {"api_key": "API key"}


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

    def _missing(self, given: Match, ids: Sequence[str], method: str) -> Match:
        first = ids.index(UNKNOWN)
        word = str(given.route.kinds[first])
        detail = f'{_WORDS.get(word, word.capitalize())} "{given.ids[first]}" not found.'
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


def _steps(given: Match) -> list[PathStep]:
    return [PathStep(text, kind) for text, kind in zip(given.ids, given.route.kinds, strict=True)]


def _with_ids(given: Match, route: CompiledRoute, ids: Sequence[str], **rest: Any) -> Match:
    return Match(route, tuple(ids), given.version, route.path_of(ids), **rest)

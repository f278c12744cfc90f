"""Routes of pages, and the router that finds them."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from discue.dashboard.forms import FORM_BYTES
from discue.dashboard.visit import Download, Page, Redirect, Visit
from discue.domain.ids import is_public_id
from discue.domain.reservations import ReadBound

Show = Callable[[Visit], Awaitable[Page | Redirect | Download]]
"""Returns the page, where else to look, or plain data. Raises what the functions of the control plane raise."""

Act = Callable[[Visit], Awaitable[Page | Redirect]]
"""Does what the form on the page asks for. Returns a page only for what is shown once, such as a new secret."""

CONFIRMATION_BYTES: Final = 4_096
"""The largest part of a form that the page of the confirmation adds: a path, a password, an id."""


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A page with the reservation for its reads."""

    reads: ReadBound
    """The reservation of each request, made before it reads: see docs/architecture/event-loop-limits.md."""


class PageRoute(_Reading, frozen=True):
    """A page: its path below `/dashboard`, in which `{id}` stands for an id, and its handlers."""

    path: str
    show: Show
    act: Act | None = None
    """None: the page has no form of its own."""
    needs: str = ""
    """The resource that the user must be able to read; empty: every signed-in user can see the page."""
    is_form: bool = False
    """Whether the page is nothing but its form: who may not use it need not see it."""
    form_bytes: int = FORM_BYTES
    """The largest form."""
    waits: bool = False
    """Whether the form waits for another server: then it waits without the turn of its organization."""
    grants_access: bool = False
    """Whether the form can give someone lasting access, such as a new key. It then requires a recent sign-in."""
    writes: str = ""
    """The resource that the user must be able to write to use the form; empty: that of `needs`."""

    @property
    def most_bytes(self) -> int:
        """The largest form, with the fields of the page that has kept it until the user confirmed who they are."""
        return self.form_bytes + CONFIRMATION_BYTES if self.grants_access else self.form_bytes


class PageMatch(NamedTuple):
    """A route, and the ids in the path that it matches."""

    route: PageRoute
    ids: tuple[str, ...]


class PageRouter:
    """Finds the route of a path."""

    def __init__(self, routes: Iterable[PageRoute]) -> None:
        self._routes = {route.path: route for route in routes}

    def find(self, path: str) -> PageMatch | None:
        """Return the match; None if there is no page at the path."""
        steps = path.split("/")
        route = self._routes.get("/".join("{id}" if is_public_id(step) else step for step in steps))
        return None if route is None else PageMatch(route, tuple(filter(is_public_id, steps)))

"""Requests for paths that no route has: their errors, with the nearest path that one has, and pages for people."""

import re
from collections.abc import Iterable
from typing import Final

from discue.config.settings import Settings
from discue.domain.errors import NotFound
from discue.domain.suggestions import nearest

_WITH_PAGES: Final = ("/docs", "/dashboard")
"""How paths begin that people type, and follow links to."""
_MOST_STEPS: Final = 16
"""Steps in the path of a page. More of them would make every link of the page that is not found longer."""
_SHOWN_PATH: Final = 200
_VERSION: Final = re.compile(r"v[0-9]{1,3}")


def no_route(
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


def is_of_page(method: str, path: str) -> bool:
    """Return whether a browser that asks for this path looks for a page. `path` has no version."""
    return method in {"GET", "HEAD"} and path.startswith(_WITH_PAGES) and path.count("/") <= _MOST_STEPS


def dashboard_hint(settings: Settings) -> str:
    """Return the error for requests to the dashboard on the port of the API; "" unless it has a port of its own."""
    if settings.dashboard_port is None or not settings.dashboard or settings.role == "dispatch":
        return ""
    if settings.dashboard_url is None:
        # Clients of the API need not know the address that the dashboard listens on.
        return "The dashboard has a port of its own: the setting `dashboard_port` says which."
    return f"The dashboard is at {settings.dashboard_url.rstrip('/')}/dashboard."


def metrics_hint(settings: Settings) -> str:
    """Return the error for requests for metrics on the port of the API; "" if that port serves them."""
    if settings.metrics_port is not None:
        return "The metrics have a port of their own: the setting `metrics_port` says which."
    if settings.metrics_key:
        return ""
    return "No metrics are served. Set `metrics_key` or `metrics_port`."


def _shown(path: str) -> str:
    return path[:_SHOWN_PATH].encode(errors="replace").decode()

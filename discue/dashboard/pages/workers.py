"""The workers of the installation, and what the one that shows the page has measured."""

from typing import Final

from discue.control import installation
from discue.dashboard.route import PageRoute
from discue.dashboard.visit import Page, Visit
from discue.domain.reservations import HTML_PAGE


async def show(visit: Visit) -> Page:
    found = await installation.state(visit.control, visit.principal)
    return Page(
        "workers.html",
        "Workers",
        {"state": found, "obstacle": visit.services.readiness.problem},
    )


ROUTES: Final = (PageRoute("/workers", show, reads=HTML_PAGE),)

"""The applications that a worker serves over HTTP: the API, the dashboard and the portal."""

from collections.abc import Sequence
from dataclasses import replace

from discue.api.app import App
from discue.api.resources import DOCUMENTATION, ROUTES, service
from discue.api.route import Route
from discue.dashboard.app import Dashboard
from discue.dashboard.pages import ROUTES as PAGES
from discue.dashboard.portal.app import Portal
from discue.dashboard.portal.pages import ROUTES as PORTAL_PAGES
from discue.http.rsgi import Application
from discue.http.services import Services


def applications(services: Services, routes: Sequence[Route]) -> tuple[Application, Application | None]:
    """Return what the worker serves: the API with the pages that are turned on, and the dashboard at its own address.

    The second is None if the dashboard is turned off, or at the address of the API.
    """
    settings = services.control.settings
    if settings.role == "dispatch":
        # A worker that only delivers still serves the version and the health endpoints.
        return App(services, routes=service.ROUTES, missing=None), None
    pages: dict[str, Application] = {}
    if settings.portal:
        pages["portal"] = Portal(services, PORTAL_PAGES)
    if not settings.dashboard:
        return App(services, routes=(*ROUTES, *routes), pages=pages), None
    dashboard = {"dashboard": Dashboard(services, PAGES)}
    with_dashboard = replace(services, has_dashboard=True)
    if settings.dashboard_port is None:
        return App(with_dashboard, routes=(*ROUTES, *routes), pages={**pages, **dashboard}), None
    # The commands in the documentation are for the address of the API.
    own = App(with_dashboard, DOCUMENTATION.routes, pages=dashboard, public_url=settings.service_url)
    return App(services, routes=(*ROUTES, *routes), pages=pages), own

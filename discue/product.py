"""The product: the core with the dashboard, the portal, users and backups."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from discue.api.app import App
from discue.api.incoming import IncomingSite
from discue.api.openapi.document import document_of
from discue.api.resources import described, service
from discue.api.route import Route
from discue.backup.create import plan_of
from discue.backup.schedule import BackupSchedule
from discue.control.context import ControlContext
from discue.dashboard import history
from discue.dashboard.app import Dashboard
from discue.dashboard.inbox import Inbox
from discue.dashboard.pages import ROUTES as PAGES
from discue.dashboard.portal import api as portal
from discue.dashboard.portal import tables as portal_tables
from discue.dashboard.portal.app import Portal
from discue.dashboard.portal.pages import ROUTES as PORTAL_PAGES
from discue.dashboard.users import api as users
from discue.dashboard.users import session_table
from discue.dashboard.users.provider import Provider, providers_in
from discue.dispatch.lease import Leadership
from discue.guides.routes import documentation_of
from discue.http.pipeline import SOURCES, Pipeline, Site
from discue.http.services import Services
from discue.observability.logs import Log
from discue.server.parts import Applications, Edge

_DESCRIBED: Final = described(portal=portal.ROUTES, users=users.ROUTES)


def _document(*, aliases: bool) -> dict[str, Any]:
    return document_of(ROUTES, service.BASE, aliases=aliases)


_PAGES, MISSING_PAGE = documentation_of(_document)
ROUTES: Final[tuple[Route, ...]] = (*_DESCRIBED, *_PAGES)


def edge(*, routes: Sequence[Route] = (), inbox: Inbox | None = None) -> Edge:
    """Return what the product adds to a worker. It serves `routes` as well, and `inbox` is that of `discue dev`."""
    return Edge(
        partial(_applications, routes=routes, inbox=inbox),
        _backups,
        (
            session_table.delete_ended,
            session_table.delete_expired_codes,
            portal_tables.delete_ended,
            history.move_old,
            history.delete_old,
        ),
    )


def _applications(services: Services, *, routes: Sequence[Route], inbox: Inbox | None) -> Applications:
    """Return the API with the pages that are turned on, and the dashboard. Raises SettingsInvalid."""
    settings = services.control.settings

    def api(services: Services) -> App:
        return App(services, (*ROUTES, *routes), missing=MISSING_PAGE)

    pages: dict[str, Site[Any]] = {SOURCES: IncomingSite(services)}
    if settings.portal:
        pages["portal"] = Portal(services, PORTAL_PAGES)
    if not settings.dashboard:
        return Applications(Pipeline(services, api(services), pages))
    dashboard = {"dashboard": Dashboard(services, PAGES, _identity_providers(services.control), inbox)}
    with_dashboard = replace(services, has_dashboard=True)
    if settings.dashboard_port is None:
        return Applications(Pipeline(with_dashboard, api(with_dashboard), {**pages, **dashboard}))
    # The commands in the documentation are for the address of the API.
    documentation = App(with_dashboard, _PAGES, public_url=settings.service_url, missing=MISSING_PAGE)
    own = Pipeline(with_dashboard, documentation, dashboard)
    return Applications(Pipeline(services, api(services), pages), own)


def _identity_providers(control: ControlContext) -> dict[str, Provider]:
    """Return the providers whose users may sign in. Raises SettingsInvalid."""
    path, seconds = control.settings.identity_providers, control.settings.connect_timeout_seconds
    if path is None:
        return {}
    return providers_in(path, control.clock, control.random_text, policy=control.egress, connect_seconds=seconds)


def _backups(control: ControlContext, log: Log, leadership: Leadership) -> BackupSchedule | None:
    plan = plan_of(control.settings, os.environ)
    if plan is None:
        return None
    return BackupSchedule(plan, control.settings.backup_every, control.clock, log=log, leadership=leadership)

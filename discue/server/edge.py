"""Parts that an installation adds to the core: pages, and jobs that deliver nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from discue.api.app import App
from discue.api.openapi.document import document_of
from discue.api.resources import described, service
from discue.control.context import ControlContext
from discue.dispatch.jobs.retention import DeleteEnded
from discue.dispatch.lease import Leadership
from discue.http.pipeline import Pipeline
from discue.http.rsgi import Application
from discue.http.services import Services
from discue.observability.logs import Log


class Applications(NamedTuple):
    """The applications of a worker."""

    api: Application
    dashboard: Application | None = None
    """The dashboard at its own address. None: it is turned off, or at the address of the API."""


class Backups(Protocol):
    """Backups at intervals."""

    @property
    def age_seconds(self) -> float | None:
        """Age of the newest backup, or time without one; None if another worker makes the backups."""

    async def round(self) -> None:
        """Make a backup if one is due, and log the result."""


MakeBackups = Callable[[ControlContext, Log, Leadership], Backups | None]
"""Returns the backups of the settings, which the leader makes; None if there are none."""


def api_alone(services: Services) -> Applications:
    """Return the core's part of the API."""
    routes = described()

    def document(*, aliases: bool) -> dict[str, Any]:
        return document_of(routes, service.BASE, aliases=aliases)

    return Applications(Pipeline(services, App(services, (*routes, service.openapi_route(document)))))


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts that an installation adds to a worker."""

    applications: Callable[[Services], Applications] = api_alone
    """Returns those of a worker that does not only deliver."""
    backups: MakeBackups | None = None
    delete_ended: Sequence[DeleteEnded] = ()
    """Deletions for the retention, from tables that the core does not read."""

    def applications_of(self, services: Services) -> Applications:
        """Return the applications of a worker. Raises SettingsInvalid."""
        if services.control.settings.role == "dispatch":
            # A worker that only delivers still serves the version and the health endpoints.
            return Applications(Pipeline(services, App(services, service.ROUTES)))
        return self.applications(services)


CORE_ALONE: Final = Edge()

"""The services that handlers of requests use, in the API and on pages."""

from dataclasses import dataclass
from typing import Literal

from discue.auth.authenticator import Authenticator
from discue.auth.client_ip import ClientIpResolver
from discue.auth.rate_limiter import RateLimiter
from discue.control.context import ControlContext
from discue.control.domains import DomainChecker
from discue.control.listener_tests import SampleSender
from discue.control.pulls import Puller
from discue.domain.errors import Unavailable
from discue.http.body import BodyReader
from discue.http.unread import UnreadResponses
from discue.observability.logs import Log
from discue.publishing.publish import Publisher
from discue.store.store import DAMAGE_REMEDY, Store

Phase = Literal["starting", "serving", "draining"]


class Readiness:
    """Whether the worker serves requests. The worker changes `phase` as it starts and stops."""

    def __init__(self, store: Store) -> None:
        self.phase: Phase = "starting"
        self._store = store

    def refusal(self) -> Unavailable:
        """Return the error for requests while the worker starts or drains."""
        return Unavailable(f"The service is {self.phase}. Try again soon.", code="not_ready")

    @property
    def obstacle(self) -> str | None:
        """The reason why the service is not ready; None if it is."""
        if self.phase != "serving":
            return f"The service is {self.phase}."
        return None if self._store.healthy else "The database cannot take writes."

    @property
    def damaged(self) -> int:
        """The number of queues whose data cannot be read, plus 1 for damaged data that belongs to no single queue."""
        return len(self._store.damage.parts())

    @property
    def warning(self) -> str | None:
        """A problem that leaves the service ready, with its remedy; None if there is none."""
        return f"A part of the database is damaged. {DAMAGE_REMEDY}" if self.damaged else None

    @property
    def problem(self) -> str | None:
        """The obstacle or the warning; None if there is neither."""
        return self.obstacle or self.warning


@dataclass(frozen=True, slots=True)
class Services:
    control: ControlContext
    publisher: Publisher
    readiness: Readiness
    log: Log
    domain_checks: DomainChecker
    rates: RateLimiter
    authenticator: Authenticator
    addresses: ClientIpResolver
    samples: SampleSender
    puller: Puller
    bodies: BodyReader
    """The request bodies of the API and of pages, which share one bound."""
    unread: UnreadResponses
    """The unread responses of the API and of pages, which share one bound."""
    has_dashboard: bool = False
    """Whether the dashboard is served at the same address as the documentation, which then links to it."""

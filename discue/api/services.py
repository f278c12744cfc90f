"""What the API stands on: handed to every handler."""

from dataclasses import dataclass
from typing import Literal

from discue.auth.authenticator import Authenticator
from discue.auth.rate_limiter import RateLimiter
from discue.control.context import ControlContext
from discue.control.domains import DomainChecker
from discue.control.listener_tests import SampleSender
from discue.control.pulls import Puller
from discue.observability.logs import Log
from discue.publishing.publish import Publisher
from discue.store.store import Store

Phase = Literal["starting", "serving", "draining"]


class Readiness:
    """Whether requests are served. Whoever starts and stops the worker moves `phase` along."""

    def __init__(self, store: Store) -> None:
        self.phase: Phase = "starting"
        self._store = store

    @property
    def obstacle(self) -> str | None:
        """Why the service is not ready; None when it is."""
        if self.phase != "serving":
            return f"The service is {self.phase}."
        return None if self._store.healthy else "The store cannot be written at the moment."


@dataclass(frozen=True, slots=True)
class Services:
    """The control plane, publishing, and what is said about requests."""

    control: ControlContext
    publisher: Publisher
    readiness: Readiness
    log: Log
    domain_checks: DomainChecker
    rates: RateLimiter
    authenticator: Authenticator
    samples: SampleSender
    puller: Puller

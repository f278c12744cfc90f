"""The parts of a worker: those that deliver, the background jobs, those of the edge, and the services of requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol

from discue.api.app import App
from discue.api.incoming import IncomingSite
from discue.api.openapi.document import document_of
from discue.api.resources import described, service
from discue.auth.authenticator import Authenticator
from discue.auth.client_ip import ClientIpResolver, UntrustedProxies
from discue.auth.rate_limiter import RateLimiter
from discue.control.context import ControlContext
from discue.dispatch.dispatcher import Dispatcher, DispatchLimits
from discue.dispatch.jobs.domain_checks import DomainVerifier
from discue.dispatch.jobs.intake import Intake
from discue.dispatch.jobs.pull_backlogs import PullBacklogs
from discue.dispatch.jobs.retention import DeleteEnded, Retention
from discue.dispatch.jobs.scheduler import Scheduler, ScheduleRuns
from discue.dispatch.jobs.system_events import FaultReports, MissedReports, RefusalReports
from discue.dispatch.lane.context import Sources, WorkerSession
from discue.dispatch.lane.probes import ProbeSender
from discue.dispatch.lease import Leadership
from discue.dispatch.pull.broker import PullBroker
from discue.dispatch.pull.session import PullContext
from discue.domain.egress import EgressPolicy
from discue.domain.trace_context import TraceIds
from discue.http.body import BodyReader
from discue.http.pipeline import SOURCES, Pipeline
from discue.http.rsgi import Application
from discue.http.services import Readiness, Services
from discue.http.unread import UnreadResponses
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.observability.tracing import Tracer
from discue.publishing.publish import Publisher
from discue.publishing.quota_gate import QuotaGate
from discue.sending.endpoint_auth import TOKEN_BYTES, AccessTokens, AuthorizingSender
from discue.sending.endpoint_tester import EndpointTester
from discue.sending.fetch import Fetcher
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.server.installation import Machine


class Applications(NamedTuple):
    api: Application
    dashboard: Application | None = None
    """The dashboard at its own address. None if it is turned off, or at the address of the API."""


class Backups(Protocol):
    @property
    def age_seconds(self) -> float | None:
        """Age of the newest backup, or time without one; None if another worker makes the backups."""

    async def round(self) -> None:
        """Make a backup if one is due, and log the result."""


def api_alone(services: Services) -> Applications:
    """Return the core's part of the API."""
    routes = described()
    document = partial(document_of, routes, service.BASE)
    api = App(services, (*routes, service.openapi_route(document)))
    return Applications(Pipeline(services, api, {SOURCES: IncomingSite(services)}))


@dataclass(frozen=True, slots=True)
class Edge:
    """The parts that an installation adds to a worker."""

    applications: Callable[[Services], Applications] = api_alone
    """Returns the applications of a worker that serves the whole API."""
    backups: Callable[[ControlContext, Log, Leadership], Backups | None] | None = None
    """Returns the job that makes backups on the leader; None if none are configured."""
    delete_ended: Sequence[DeleteEnded] = ()
    """Deletions by the retention job in tables that the core does not read."""

    def applications_of(self, services: Services) -> Applications:
        """Return the applications of a worker. Raises SettingsInvalid."""
        if services.control.settings.role == "dispatch":
            # A worker that only delivers still serves the version and the health endpoints.
            return Applications(Pipeline(services, App(services, service.ROUTES)))
        return self.applications(services)


CORE_ALONE: Final = Edge()


class DeliveryParts:
    """The parts that deliver messages, to listeners and to consumers."""

    def __init__(
        self,
        control: ControlContext,
        log: Log,
        machine: Machine,
        session: WorkerSession,
        *,
        sender: Sender | None,
        tracer: Tracer | None,
        on_missed: Callable[[], None],
        on_unowned: Callable[[], None],
    ) -> None:
        """`sender` replaces the sender that the settings describe.

        `on_missed` is called when missed deliveries were stored, and `on_unowned` when a cursor may be free to claim.
        """
        settings, store, clock = control.settings, control.store, control.clock
        policy, connect_seconds = control.egress, settings.connect_timeout_seconds
        deadline_ms, trace_ids = settings.delivery_deadline_seconds * 1_000, TraceIds(control.random_bytes)
        public = EgressPolicy(allow_private=settings.show_private_responses)
        limits = SenderLimits(
            connect_timeout_ms=connect_seconds * 1_000, idle_connections_per_origin=settings.listener_max_in_flight
        )
        sender_of = partial(Sender, policy=policy, resolve=machine.resolve, public=public)
        details = settings.attempt_details
        self.sender = sender or sender_of(clock=clock, limits=limits, details=details, measures=store.measures)
        fetcher_of = partial(Fetcher, policy=policy, connect_seconds=connect_seconds, resolve=machine.resolve)
        self.fetcher = fetcher_of(public=public)
        self.probe = ProbeSender(self.fetcher)
        self._tokens = AccessTokens(fetcher_of(kept_bytes=TOKEN_BYTES), clock)
        self._authorizer = AuthorizingSender(self.sender, self._tokens, clock)
        self.tester = EndpointTester(sender_of, self._tokens, machine.clock, limits)
        self.dispatcher = Dispatcher(
            store,
            send=self._authorizer.send,
            probe=self.probe,
            limits=DispatchLimits(
                max_in_flight=settings.max_in_flight,
                listener_max_in_flight=settings.listener_max_in_flight,
                tail_buffer_bytes=settings.tail_buffer_bytes,
                timeout_ms=settings.delivery_timeout_seconds * 1_000,
                deadline_ms=deadline_ms,
                disable_after_seconds=settings.disable_after_seconds,
                attempt_details_bytes_per_hour=settings.attempt_details_bytes_per_hour,
            ),
            sources=Sources(clock, machine.random, control.row_ids, trace_ids, log, control.keyring, tracer),
            session=session,
            on_missed=on_missed,
            on_unowned=on_unowned,
        )
        pull_context = PullContext(
            store,
            clock,
            control.row_ids,
            machine.random,
            max_in_flight=settings.listener_max_in_flight,
            deadline_ms=deadline_ms,
            trace_ids=trace_ids,
            on_missed=on_missed,
            disable=self.dispatcher.disable,
            tracer=tracer,
        )
        self.pulls = PullBroker(pull_context, log)

    async def close(self) -> None:
        """Close all connections. Requests in flight fail."""
        await self._authorizer.close()
        await self.tester.close()
        await self._tokens.close()
        await self.probe.close()


class WorkerJobs:
    """The background jobs. Most of them run on the leader only."""

    def __init__(
        self,
        control: ControlContext,
        log: Log,
        delivery: DeliveryParts,
        leadership: Leadership,
        *,
        edge: Edge,
        missed_reports: MissedReports,
        supervisor: Supervisor,
    ) -> None:
        store, clock = control.store, control.clock
        self.retention = Retention(control, delivery.dispatcher, leadership, delete_ended=edge.delete_ended)
        self.scheduler = Scheduler(store, ScheduleRuns(control), clock, leadership)
        report, on_delayed = partial(supervisor.report, "intake"), self.scheduler.on_snapshot
        self.intake = Intake(control, log, leadership, on_error=report, on_delayed=on_delayed)
        self.missed_reports = missed_reports
        self.verifier = DomainVerifier(control, delivery.fetcher, leadership)
        self.pull_backlogs = PullBacklogs(store, clock, leadership)
        self.fault_reports = FaultReports(control, log)
        self.refusal_reports = RefusalReports(control, log)
        self.backups: Backups | None = None
        """None if the settings name no backups, or the worker only serves the API."""
        if edge.backups is not None and control.settings.role != "api":
            self.backups = edge.backups(control, log, leadership)


def services_of(
    control: ControlContext,
    log: Log,
    delivery: DeliveryParts,
    verifier: DomainVerifier,
    *,
    readiness: Readiness,
    tracer: Tracer | None,
) -> Services:
    settings, store, cache, clock = control.settings, control.store, control.cache, control.clock
    quotas = QuotaGate(store, clock, control.row_ids)
    return Services(
        control=control,
        publisher=Publisher(store, cache, clock, control.public_ids, quotas, row_ids=control.row_ids, tracer=tracer),
        readiness=readiness,
        log=log,
        domain_checks=verifier,
        rates=RateLimiter(store, clock),
        authenticator=Authenticator(store, cache, clock, control.row_ids, log=log),
        addresses=ClientIpResolver(settings.trusted_proxies, UntrustedProxies(log, clock.monotonic)),
        samples=delivery.tester,
        puller=delivery.pulls,
        bodies=BodyReader(
            deadline_seconds=settings.request_body_timeout_seconds,
            max_bytes=settings.max_waiting_bytes,
            is_store_healthy=lambda: store.healthy,
        ),
        unread=UnreadResponses(store.ledger),
    )

"""A worker: one process of the service. Builds its parts from the settings, and starts, drains and stops them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cached_property, partial

from discue.auth.authenticator import Authenticator
from discue.auth.client_ip import ClientIpResolver, UntrustedProxies
from discue.auth.rate_limiter import RateLimiter
from discue.control.context import ControlContext
from discue.dispatch.cluster.lease import Lease
from discue.dispatch.cluster.ownership import Ownership, Predecessors
from discue.dispatch.dispatcher import Dispatcher, DispatchLimits, Sources
from discue.dispatch.jobs.damage_reports import DamageReports
from discue.dispatch.jobs.domain_checks import DomainVerifier
from discue.dispatch.jobs.intake import Intake
from discue.dispatch.jobs.pull_backlogs import SECONDS as PULL_BACKLOGS_SECONDS
from discue.dispatch.jobs.pull_backlogs import PullBacklogs
from discue.dispatch.jobs.retention import Retention, RetentionTimes
from discue.dispatch.jobs.scheduler import Scheduler, ScheduleRuns
from discue.dispatch.jobs.system_events import MissedReports, SystemQueues
from discue.dispatch.lane.probes import ProbeSender
from discue.dispatch.poller import Poller, PollerContext
from discue.dispatch.pull.broker import PullBroker
from discue.dispatch.pull.session import PullContext
from discue.domain.egress import EgressPolicy, parse_target
from discue.domain.errors import Unavailable
from discue.domain.reservations import FEW_ROWS, JOBS, RESOURCE, STEP, ReadBound
from discue.domain.trace_context import TraceIds
from discue.http.body import BodyReader
from discue.http.services import Readiness, Services
from discue.http.unread import UnreadResponses
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.observability.tracing import Tracer
from discue.publishing.publish import Publisher
from discue.publishing.quota_gate import QuotaGate
from discue.sending.endpoint_auth import TOKEN_BYTES, AccessTokens, AuthorizingSender
from discue.sending.fetch import Fetcher
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.sending.test_sender import EndpointTester
from discue.server.activity import WorkerActivity
from discue.server.edge import CORE_ALONE, Backups, Edge
from discue.server.heartbeat import SECONDS as HEARTBEAT_SECONDS
from discue.server.heartbeat import Heartbeat
from discue.server.http import Address, HttpServer
from discue.server.machine import Machine
from discue.server.metric_table import WorkerParts
from discue.server.process_watch import watch_loop
from discue.store.engine import Appended, Notification, QueueKey
from discue.store.ledger import Ledger, Reservation

_RETRY_SECONDS = 0.5
_RETENTION_SECONDS = 60.0
_KEY_USAGE_SECONDS = 10.0
_LISTENER_COUNTS_SECONDS = 60.0
_VERIFICATION_SECONDS = 5.0
_STUCK_SESSIONS_SECONDS = 5.0
_DAMAGE_REPORTS_SECONDS = 1.0
_BACKUP_CHECK_SECONDS = 1.0
_STOP_GRACE_SECONDS = 5.0
_ANNOUNCE_TIMEOUT_SECONDS = 1.0


class Worker:
    """The API and the lanes of one process, on one installation.

    `edge` is what the installation adds to the core. `predecessors` are earlier workers that are known to have ended:
    this worker takes over their cursors at once, and those of other workers when their leases expire. `machine` is what
    the process runs on; by default its clock is the control plane's. `tracer` records sampled messages.
    """

    def __init__(
        self,
        control: ControlContext,
        log: Log,
        edge: Edge = CORE_ALONE,
        *,
        predecessors: Predecessors = (),
        sender: Sender | None = None,
        machine: Machine | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        settings, store, clock = control.settings, control.store, control.clock
        self._machine = machine = machine or Machine(clock)
        self._control = control
        self.log = log
        self.trusted_proxies = settings.trusted_proxies
        self._predecessors = predecessors
        self._tracer = tracer
        self.readiness = Readiness(store)
        policy, connect_seconds = control.egress, settings.connect_timeout_seconds
        limits = SenderLimits(
            connect_timeout_ms=connect_seconds * 1_000, idle_connections_per_origin=settings.listener_max_in_flight
        )
        public = EgressPolicy(allow_private=settings.show_private_responses)
        self.sender = sender or Sender(
            clock=clock,
            policy=policy,
            limits=limits,
            resolve=machine.resolve,
            details=settings.attempt_details,
            public=public,
            measures=store.measures,
        )
        fetcher = Fetcher(policy=policy, connect_seconds=connect_seconds, resolve=machine.resolve, public=public)
        self._probe = ProbeSender(fetcher)
        token_fetcher = Fetcher(
            policy=policy, connect_seconds=connect_seconds, resolve=machine.resolve, kept_bytes=TOKEN_BYTES
        )
        self._tokens = AccessTokens(token_fetcher, clock)
        self._authorizer = AuthorizingSender(self.sender, self._tokens, clock)
        row_ids, trace_ids = control.row_ids, TraceIds(control.random_bytes)
        self.lease = Lease(store, row_ids, machine.clock, settings.role, seconds=settings.lease_seconds)
        self.dispatcher = Dispatcher(
            store,
            send=self._authorizer.send,
            probe=self._probe,
            limits=DispatchLimits(
                max_in_flight=settings.max_in_flight,
                listener_max_in_flight=settings.listener_max_in_flight,
                tail_buffer_bytes=settings.tail_buffer_bytes,
                timeout_ms=settings.delivery_timeout_seconds * 1_000,
                deadline_ms=settings.delivery_deadline_seconds * 1_000,
                disable_after_seconds=settings.disable_after_seconds,
                attempt_details_bytes_per_hour=settings.attempt_details_bytes_per_hour,
            ),
            sources=Sources(clock, machine.random, row_ids, trace_ids, control.keyring, tracer),
            log=log,
            lease=self.lease,
        )
        self._ownership = Ownership(store, self.dispatcher, self.lease, machine.clock, log=log)
        self._retention = Retention(
            store,
            control.cache,
            self.dispatcher,
            clock,
            times=RetentionTimes(
                messages=settings.retention_seconds,
                missed=settings.missed_retention_seconds,
                attempts=settings.attempt_retention_seconds,
            ),
            is_leader=lambda: self._ownership.is_leader,
            delete_ended=edge.delete_ended,
        )
        self._scheduler = Scheduler(
            store,
            ScheduleRuns(
                store, control.cache, clock, control.public_ids, row_ids=row_ids, quotas=settings.default_quotas
            ),
            clock,
            is_leader=lambda: self._ownership.is_leader,
        )
        self._supervisor = Supervisor(log, partial(_hold, store.ledger))
        self._intake = Intake(
            control,
            log,
            on_error=partial(self._supervisor.report, "intake"),
            is_leader=lambda: self._ownership.is_leader,
            on_delayed=self._scheduler.on_snapshot,
        )
        pull_context = PullContext(
            store,
            clock,
            row_ids,
            machine.random,
            max_in_flight=settings.listener_max_in_flight,
            deadline_ms=settings.delivery_deadline_seconds * 1_000,
            trace_ids=trace_ids,
            tracer=tracer,
        )
        self.pulls = PullBroker(pull_context, log)
        polled_parts = PollerContext(
            lease=self.lease,
            cache=control.cache,
            dispatcher=self.dispatcher,
            ownership=self._ownership,
            retention=self._retention,
            pulls=self.pulls,
            on_intake=self._intake.request,
        )
        self._poller = Poller(store, polled_parts, machine.clock, log)
        self.dispatcher.registry.on_unowned = self._poller.request_poll
        self._system_queues = SystemQueues(control, is_leader=lambda: self._ownership.is_leader)
        self._missed_reports = MissedReports(control, log, is_leader=lambda: self._ownership.is_leader)
        self.dispatcher.on_missed = pull_context.on_missed = self._missed_reports.request
        self._verifier = DomainVerifier(control, fetcher, is_leader=lambda: self._ownership.is_leader)
        self._endpoint_tester = EndpointTester(
            clock=machine.clock,
            policy=policy,
            tokens=self._tokens,
            connect_timeout_ms=connect_seconds * 1_000,
            resolve=machine.resolve,
            public=public,
        )
        self.activity = WorkerActivity(
            clock,
            self.dispatcher,
            self.pulls,
            self._poller,
            self._scheduler,
            self._missed_reports,
            system_queues=self._system_queues,
            retention=self._retention,
            verifier=self._verifier,
            probe=self._probe,
            sender=self.sender,
        )
        services = Services(
            control=control,
            publisher=Publisher(
                store,
                control.cache,
                clock,
                control.public_ids,
                QuotaGate(store, clock, row_ids),
                row_ids=row_ids,
                tracer=tracer,
            ),
            readiness=self.readiness,
            log=log,
            domain_checks=self._verifier,
            rates=RateLimiter(store, clock),
            authenticator=Authenticator(store, control.cache, clock, row_ids, log=log),
            addresses=ClientIpResolver(settings.trusted_proxies, UntrustedProxies(log, clock.monotonic)),
            samples=self._endpoint_tester,
            puller=self.pulls,
            bodies=BodyReader(
                deadline_seconds=settings.request_body_timeout_seconds,
                max_bytes=settings.max_waiting_bytes,
                is_store_healthy=lambda: store.healthy,
            ),
            unread=UnreadResponses(store.ledger),
        )
        self._edge = edge
        self.application, self.dashboard = edge.applications_of(services)

    @cached_property
    def measured(self) -> WorkerParts:
        """The parts of the worker that the metrics are about."""
        return WorkerParts(
            self._control.settings,
            self._control.store,
            self.dispatcher,
            self._scheduler,
            self._pull_backlogs,
            supervisor=self._supervisor,
            sender=self.sender,
            clock=self._control.clock,
            backups=self._backups,
            spans={} if self._tracer is None else self._tracer.counts,
        )

    async def start(self) -> None:
        """Join the other workers and start the lanes and the background jobs. Until then requests get 503."""
        control = self._control
        self.lease.on_expired, self.lease.on_held = self._rejoin, self.dispatcher.on_lease_renewed
        self._ownership.on_recorded = lambda snapshot: self._scheduler.on_snapshot(snapshot.scheduled_at)
        await self.lease.join()
        renewal_seconds = self.lease.renewal_seconds
        self._supervisor.every(renewal_seconds, "lease", self._renew, max_pause=renewal_seconds, reads=FEW_ROWS)
        control.cache.follow(self.pulls.on_change)
        control.store.on_append = self.pulls.on_appended
        control.store.on_heads = self.pulls.on_heads
        if control.settings.role != "api":
            control.cache.follow(self.dispatcher.on_change)
            control.store.on_append = self._appended
            control.store.on_heads = self._on_heads
            # It may be the leader before it has claimed its cursors. As often as the poller: when the store is back,
            # messages that became due have waited long enough.
            self._supervisor.every(0, "delayed_messages", self._scheduler.round, max_pause=1.0, reads=FEW_ROWS)
        self._poller.listen()
        await self._ownership.begin(self._predecessors)
        self._start_jobs()
        self.dispatcher.tasks.spawn(self._warm_up())
        self.log.info("worker_joined", session_id=self.lease.session_id, slot=self.lease.slot)
        self.readiness.phase = "serving"

    def begin_drain(self) -> None:
        """Reject new requests and start no more deliveries. Requests in flight go on."""
        self.readiness.phase = "draining"
        self._ownership.begin_leaving()
        self.dispatcher.begin_draining()
        self.pulls.close()

    async def hand_over(self) -> None:
        """Release all lanes, and wait for their requests in flight until the drain timeout."""
        self.begin_drain()
        try:
            async with asyncio.timeout(_ANNOUNCE_TIMEOUT_SECONDS):
                await self.lease.begin_leaving()
            self._control.store.engine.notify(Notification(cursors=True))
        except (Unavailable, TimeoutError) as error:
            self.log.warning("leave_not_announced", reason=str(error))
        await self.dispatcher.drain(self._control.settings.drain_timeout_seconds)

    async def leave(self) -> None:
        """Stop all background jobs and connections. The worker cannot be used afterwards."""
        await self._supervisor.stop()
        await self._authorizer.close(0)
        await self._endpoint_tester.close()
        await self._tokens.close()
        await self._probe.close()
        try:
            while await self._control.cache.flush_usage():
                pass
        except Unavailable as error:
            # Only the times of last use are lost: the drain has not failed.
            self.log.warning("key_usage_not_saved", reason=error.detail)
        try:
            await self._retention.store_listener_counts()
        except Unavailable as error:
            # Charts lack the last minute.
            self.log.warning("listener_counts_not_saved", reason=error.detail)
        try:
            await self.lease.leave()
            self._control.store.engine.notify(Notification(cursors=True))
        except Unavailable as error:
            # Other workers take over when the lease expires.
            self.log.warning("lease_not_released", reason=error.detail)

    async def _renew(self) -> None:
        if not await self.lease.renew():
            self._poller.request_poll()

    async def _warm_up(self) -> None:
        try:
            await self._control.store.engine.warm_up()
        except Unavailable as error:
            # Only the first requests are slower.
            self.log.warning("not_warmed_up", reason=error.detail)

    def _rejoin(self) -> None:
        self.log.warning(
            "worker_expired", session_id=self.lease.session_id, detail="Another worker took over; starting again."
        )
        self._control.store.measures.leases_lost += 1
        self.dispatcher.registry.drop_all()

    def _appended(self, appended: Appended) -> None:
        self.dispatcher.on_appended(appended)
        self.pulls.on_appended(appended)
        self._scheduler.on_appended(appended)

    def _on_heads(self, heads: Iterable[tuple[QueueKey, int]]) -> None:
        changed = tuple(heads)
        self.dispatcher.on_heads(changed)
        self.pulls.on_heads(changed)

    def _start_jobs(self) -> None:
        every, retention = self._supervisor.every, self._retention
        every(0, "poller", self._poller.run_once, reads=FEW_ROWS)
        every(_RETRY_SECONDS, "probe_writes", self._control.store.probe_writes, max_pause=2.0, reads=FEW_ROWS)
        every(_KEY_USAGE_SECONDS, "key_usage", retention.flush_key_usage, reads=FEW_ROWS)
        every(_LISTENER_COUNTS_SECONDS, "listener_counts", retention.store_listener_counts, reads=FEW_ROWS)
        damage = DamageReports(self._control, self.log)
        every(_DAMAGE_REPORTS_SECONDS, "damage_reports", damage.report, reads=FEW_ROWS)
        every(
            0,
            "loop_watch",
            partial(watch_loop, self._control.store.measures, self._machine.clock.monotonic),
            reads=FEW_ROWS,
        )
        if (url := self._control.settings.heartbeat_url) is not None:
            heartbeat = Heartbeat(
                parse_target(url, "/heartbeat_url"),
                is_well=lambda: self._control.store.healthy and self.lease.is_held(),
                connect_seconds=self._control.settings.connect_timeout_seconds,
                log=self.log,
            )
            every(HEARTBEAT_SECONDS, "heartbeat", heartbeat.beat, reads=FEW_ROWS)
        if self._control.settings.role != "api":
            every(0, "purge", retention.purge_on_request, reads=FEW_ROWS)
            every(_RETENTION_SECONDS, "retention", retention.run, reads=RESOURCE)
            every(0, "missed_reports", self._missed_reports.round, reads=RESOURCE)
            every(0, "intake", self._intake.round, reads=FEW_ROWS)
            every(_RETENTION_SECONDS, "system_queues", self._system_queues.run, reads=FEW_ROWS)
            every(_RETENTION_SECONDS, "orphaned_cursors", self._release_orphaned, reads=FEW_ROWS)
            every(_RETENTION_SECONDS, "pulled_messages", self._miss_pulled, reads=STEP)
            every(PULL_BACKLOGS_SECONDS, "pull_backlogs", self._pull_backlogs.read, reads=RESOURCE)
            every(_VERIFICATION_SECONDS, "domain_checks", self._verifier.round, reads=RESOURCE)
            every(_STUCK_SESSIONS_SECONDS, "stuck_sessions", self._end_stuck_sessions, reads=FEW_ROWS)
            if self._backups is not None:
                every(_BACKUP_CHECK_SECONDS, "backup", self._backups.round, reads=FEW_ROWS)

    @cached_property
    def _backups(self) -> Backups | None:
        make = self._edge.backups
        return None if make is None else make(self._control, self.log, lambda: self._ownership.is_leader)

    @cached_property
    def _pull_backlogs(self) -> PullBacklogs:
        return PullBacklogs(self._control.store, self._control.clock, is_leader=lambda: self._ownership.is_leader)

    async def _release_orphaned(self) -> None:
        if self._ownership.is_leader:
            await self._ownership.release_orphaned()

    async def _end_stuck_sessions(self) -> None:
        if self._ownership.is_leader:
            for name in await self._control.store.engine.end_stuck_sessions():
                self.log.warning("session_ended", session=name)

    async def _miss_pulled(self) -> None:
        if self._ownership.is_leader:
            await self.pulls.miss_too_old()


def _hold(ledger: Ledger, bound: ReadBound) -> Reservation:
    """Reserve what a job reads. Never waits: all organizations would wait with the job."""
    return ledger.hold(JOBS, bound.bytes)


@asynccontextmanager
async def served(worker: Worker, address: Address, *, max_connections: int) -> AsyncIterator[HttpServer]:
    """Serve the worker's API at an address. At the end, stop accepting, and meanwhile hand over the deliveries."""
    server = HttpServer(
        worker.application,
        address,
        max_connections=max_connections,
        trusted_proxies=worker.trusted_proxies,
        log=worker.log,
    )
    try:
        # The server starts first and answers 503: if the address is in use, the cursors must stay with their owners,
        # and a listener that this process serves must be reachable when the lanes start.
        await server.start()
        await worker.start()
        yield server
    finally:
        worker.begin_drain()
        stopping = asyncio.get_running_loop().create_task(server.stop(_STOP_GRACE_SECONDS))
        try:
            await worker.hand_over()
        finally:
            await stopping
            await worker.leave()

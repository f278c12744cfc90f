"""A worker: one process of the service. Builds its parts from the settings, and starts, drains and stops them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from discue.control.context import ControlContext
from discue.dispatch.jobs.pull_backlogs import SECONDS as PULL_BACKLOGS_SECONDS
from discue.dispatch.jobs.system_events import MissedReports
from discue.dispatch.lane.context import WorkerSession
from discue.dispatch.lease import Leadership, Lease
from discue.dispatch.ownership import Ownership, Predecessors
from discue.dispatch.poller import Poller
from discue.domain.egress import parse_target
from discue.domain.errors import Unavailable
from discue.domain.reservations import FEW_ROWS, JOBS, LARGE_RESOURCE, RESOURCE, STEP
from discue.http.services import Readiness
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.observability.tracing import Tracer
from discue.sending.sender import Sender
from discue.server.heartbeat import SECONDS as HEARTBEAT_SECONDS
from discue.server.heartbeat import Heartbeat
from discue.server.http import Address, HttpServer
from discue.server.installation import Machine
from discue.server.parts import CORE_ALONE, DeliveryParts, Edge, WorkerJobs, services_of
from discue.server.process import watch_loop
from discue.store.engine import Notification

_STUCK_SESSIONS_SECONDS = 2.0
_STOP_GRACE_SECONDS = 5.0


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
        announce: Callable[[int], None] | None = None,
    ) -> None:
        """`announce` is called with each session id before anything is written under it."""
        settings, store = control.settings, control.store
        self._machine = machine = machine or Machine(control.clock)
        self.control = control
        self.log = log
        self.started_at = machine.clock.now() / 1_000
        """In seconds since the epoch."""
        self._predecessors = predecessors
        self.tracer = tracer
        self.readiness = Readiness(store)
        # Does not wait for the reservation: all organizations would wait with the job.
        self.supervisor = Supervisor(log, lambda bound: store.ledger.hold(JOBS, bound.bytes))
        self._leadership = Leadership()
        missed_reports, poll_requested = MissedReports(control, log, self._leadership), asyncio.Event()
        session = WorkerSession(machine.clock)
        self.delivery = DeliveryParts(
            control,
            log,
            machine,
            session,
            sender=sender,
            tracer=tracer,
            on_missed=missed_reports.request,
            on_unowned=poll_requested.set,
        )
        dispatcher, leadership = self.delivery.dispatcher, self._leadership
        self.jobs = jobs = WorkerJobs(
            control,
            log,
            self.delivery,
            leadership,
            edge=edge,
            missed_reports=missed_reports,
            supervisor=self.supervisor,
        )
        self.lease = Lease(
            store,
            session,
            control.row_ids,
            settings.role,
            seconds=settings.lease_seconds,
            on_expired=self._on_expired,
            on_held=dispatcher.on_lease_renewed,
            announce=announce,
        )
        on_recorded = jobs.scheduler.on_snapshot
        self._ownership = Ownership(store, dispatcher, self.lease, leadership, log=log, on_recorded=on_recorded)
        self.poller = Poller(
            control,
            log,
            dispatcher,
            self._ownership,
            pulls=self.delivery.pulls,
            on_jobs=jobs.retention.request_purge,
            on_intake=jobs.intake.request,
            requested=poll_requested,
        )
        services = services_of(control, log, self.delivery, jobs.verifier, readiness=self.readiness, tracer=tracer)
        self.application, self.dashboard = edge.applications_of(services)

    async def start(self) -> None:
        """Join the other workers and start the lanes and the background jobs. Until then requests get 503."""
        control, dispatcher, pulls = self.control, self.delivery.dispatcher, self.delivery.pulls
        await self.lease.join()
        renewal_seconds = self.lease.renewal_seconds
        self.supervisor.every(renewal_seconds, "lease", self._renew, max_pause=renewal_seconds, reads=FEW_ROWS)
        if control.settings.role != "api":
            control.cache.follow(dispatcher.on_change)
            control.store.on_append += [dispatcher.on_appended, self.jobs.scheduler.on_appended]
            control.store.on_heads.append(dispatcher.on_heads)
            # It may be the leader before it has claimed its cursors. As often as the poller: when the store is back,
            # messages that became due have waited long enough.
            self.supervisor.every(0, "delayed_messages", self.jobs.scheduler.round, max_pause=1.0, reads=FEW_ROWS)
        control.cache.follow(pulls.on_change)
        control.store.on_append.append(pulls.on_appended)
        control.store.on_heads.append(pulls.on_heads)
        self.poller.listen()
        await self._ownership.begin(self._predecessors)
        self._start_jobs()
        dispatcher.tasks.spawn(self._warm_up())
        self.log.info("worker_joined", session_id=self.lease.session.id, slot=self.control.row_ids.slot)
        self.readiness.phase = "serving"

    async def hand_over(self) -> None:
        """Reject new requests, release all lanes, and wait for their requests in flight until the drain timeout."""
        self.readiness.phase = "draining"
        self.delivery.dispatcher.begin_draining()
        self.delivery.pulls.close()
        try:
            async with asyncio.timeout(1):
                await self.lease.begin_leaving()
            self.control.store.engine.notify(Notification(cursors=True))
        except (Unavailable, TimeoutError) as error:
            self.log.warning("leave_not_announced", reason=str(error))
        await self.delivery.dispatcher.drain(self.control.settings.drain_timeout_seconds)

    async def leave(self) -> None:
        """Stop all background jobs and connections. The worker cannot be used afterwards."""
        await self.supervisor.stop()
        await self.delivery.close()
        try:
            await self.jobs.retention.flush_key_usage()
        except Unavailable as error:
            # Only the times of last use are lost: the drain has not failed.
            self.log.warning("key_usage_not_saved", reason=error.detail)
        try:
            await self.jobs.retention.store_listener_counts()
        except Unavailable as error:
            # Charts lack the last minute.
            self.log.warning("listener_counts_not_saved", reason=error.detail)
        try:
            await self.lease.leave()
            self.control.store.engine.notify(Notification(cursors=True))
        except Unavailable as error:
            # Other workers take over when the lease expires.
            self.log.warning("lease_not_released", reason=error.detail)

    async def _renew(self) -> None:
        if not await self.lease.renew():
            self.poller.request_poll()

    async def _warm_up(self) -> None:
        try:
            await self.control.store.engine.warm_up()
        except Unavailable as error:
            # Only the first requests are slower.
            self.log.warning("not_warmed_up", reason=error.detail)

    def _on_expired(self) -> None:
        self.log.warning(
            "worker_expired", session_id=self.lease.session.id, detail="Another worker took over; starting again."
        )
        self.control.store.measures.leases_lost += 1
        self.delivery.dispatcher.registry.drop_all()

    def _start_jobs(self) -> None:
        every, only, jobs, retention = self.supervisor.every, self._leadership.only, self.jobs, self.jobs.retention
        every(0, "poller", self.poller.run_once, reads=FEW_ROWS)
        every(0.5, "probe_writes", self.control.store.probe_writes, max_pause=2.0, reads=FEW_ROWS)
        every(10, "key_usage", retention.flush_key_usage, reads=FEW_ROWS)
        every(60, "listener_counts", retention.store_listener_counts, reads=FEW_ROWS)
        every(1, "fault_reports", jobs.fault_reports.report, reads=FEW_ROWS)
        every(1, "refused_requests", jobs.refusal_reports.report, reads=LARGE_RESOURCE)
        watch = partial(watch_loop, self.control.store.measures, self._machine.clock.monotonic)
        every(0, "loop_watch", watch, reads=FEW_ROWS)
        if (url := self.control.settings.heartbeat_url) is not None:
            heartbeat = Heartbeat(
                parse_target(url, "/heartbeat_url"),
                policy=self.control.egress,
                is_well=lambda: self.control.store.healthy and self.lease.session.is_held(),
                connect_seconds=self.control.settings.connect_timeout_seconds,
                log=self.log,
            )
            every(HEARTBEAT_SECONDS, "heartbeat", heartbeat.beat, reads=FEW_ROWS)
        if self.control.settings.role != "api":
            every(5, "idle_lanes", self.delivery.dispatcher.registry.drop_idle, reads=FEW_ROWS)
            every(0, "purge", retention.purge_on_request, reads=FEW_ROWS)
            every(60, "retention", retention.run, reads=RESOURCE)
            every(0, "missed_reports", jobs.missed_reports.round, reads=RESOURCE)
            every(0, "intake", jobs.intake.round, reads=FEW_ROWS)
            every(60, "orphaned_cursors", only(self._ownership.release_orphaned), reads=FEW_ROWS)
            every(60, "pulled_messages", only(self.delivery.pulls.miss_too_old), reads=STEP)
            every(PULL_BACKLOGS_SECONDS, "pull_backlogs", jobs.pull_backlogs.read, reads=RESOURCE)
            every(5, "domain_checks", jobs.verifier.round, reads=RESOURCE)
            every(_STUCK_SESSIONS_SECONDS, "stuck_sessions", only(self._end_stuck_sessions), reads=FEW_ROWS)
            if jobs.backups is not None:
                every(1, "backup", jobs.backups.round, reads=FEW_ROWS)

    async def _end_stuck_sessions(self) -> None:
        for name in await self.control.store.engine.end_stuck_sessions():
            self.log.warning("session_ended", session=name)


@asynccontextmanager
async def served(worker: Worker, address: Address) -> AsyncIterator[HttpServer]:
    """Serve the worker's API at an address. At the end, stop accepting, and meanwhile hand over the deliveries."""
    server = HttpServer(
        worker.application,
        address,
        max_connections=worker.control.settings.max_connections,
        trusted_proxies=worker.control.settings.trusted_proxies,
        log=worker.log,
    )
    try:
        # The server starts first and answers 503: if the address is in use, the cursors must stay with their owners,
        # and a listener that this process serves must be reachable when the lanes start.
        await server.start()
        await worker.start()
        yield server
    finally:
        # This task starts when `hand_over` first waits. By then, new requests are rejected.
        stopping = asyncio.get_running_loop().create_task(server.stop(_STOP_GRACE_SECONDS))
        try:
            await worker.hand_over()
        finally:
            await stopping
            await worker.leave()

"""The work of a worker that is due now or later. The test kit waits for it, and moves the clock on to it."""

from dataclasses import dataclass

from discue.dispatch.dispatcher import Dispatcher
from discue.dispatch.jobs.domain_checks import DomainVerifier
from discue.dispatch.jobs.retention import Retention
from discue.dispatch.jobs.scheduler import Scheduler
from discue.dispatch.jobs.system_events import MissedReports, SystemQueues
from discue.dispatch.lane.probes import ProbeSender
from discue.dispatch.poller import Poller
from discue.dispatch.pull.broker import PullBroker
from discue.domain.clock import Clock
from discue.sending.sender import Sender


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """The parts of a worker that do something by themselves."""

    clock: Clock
    dispatcher: Dispatcher
    pulls: PullBroker
    poller: Poller
    scheduler: Scheduler
    missed_reports: MissedReports
    system_queues: SystemQueues
    retention: Retention
    verifier: DomainVerifier
    probe: ProbeSender
    sender: Sender

    @property
    def is_working(self) -> bool:
        """Whether anything runs or is due now, requests in flight aside."""
        dispatcher = self.dispatcher
        return bool(
            dispatcher.tasks.running
            or dispatcher.has_turns_to_come
            or self.pulls.tasks.running
            or self.probe.in_flight
            or self.poller.is_busy
            or 0 < dispatcher.timers.next_at <= self.clock.now()
        )

    @property
    def next_at(self) -> int | None:
        """When anything is next due, probes and records of health included, in milliseconds since the epoch."""
        known = (self.dispatcher.timers.next_at, self.scheduler.next_at)
        return min((at for at in known if at), default=None)

    @property
    def next_delivery_at(self) -> int | None:
        """When a delivery, delayed message or schedule is next due, in milliseconds since the epoch."""
        known = (self.scheduler.next_at, *(lane.wakes_at for lane in self.dispatcher.lanes))
        return min((at for at in known if at), default=None)

    async def catch_up(self) -> None:
        """Start what the clock has made due. Delayed messages, schedules and reports are done when this returns."""
        self.sender.sweep()
        self.dispatcher.timers.wake_due()
        self.pulls.timers.wake_due()
        await self.scheduler.deliver_due()
        await self.missed_reports.report()

    async def run_jobs(self) -> None:
        """Do what is otherwise done every few seconds or minutes: delete, miss and verify what the clock says."""
        await self.system_queues.run()
        await self.retention.run()
        await self.pulls.miss_too_old()
        await self.verifier.round()
        await self.retention.flush_key_usage()

"""The work of a worker that is due now or later. The test kit waits for it, and moves the clock on to it."""

from dataclasses import dataclass

from discue.dispatch.poller import Poller
from discue.domain.clock import Clock
from discue.server.parts import DeliveryParts, WorkerJobs


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """The parts of a worker that do something by themselves."""

    clock: Clock
    delivery: DeliveryParts
    jobs: WorkerJobs
    poller: Poller

    @property
    def is_working(self) -> bool:
        """Whether anything runs or is due now, requests in flight aside."""
        dispatcher = self.delivery.dispatcher
        return bool(
            dispatcher.tasks.running
            or dispatcher.has_turns_to_come
            or self.delivery.pulls.tasks.running
            or self.delivery.probe.in_flight
            or self.poller.is_busy
            or 0 < dispatcher.timers.next_at <= self.clock.now()
        )

    @property
    def next_at(self) -> int | None:
        """When anything is next due, probes and records of health included, in milliseconds since the epoch."""
        known = (self.delivery.dispatcher.timers.next_at, self.jobs.scheduler.next_at)
        return min((at for at in known if at), default=None)

    @property
    def next_delivery_at(self) -> int | None:
        """When a delivery, delayed message or schedule is next due, in milliseconds since the epoch."""
        known = (self.jobs.scheduler.next_at, *(lane.wakes_at for lane in self.delivery.dispatcher.lanes))
        return min((at for at in known if at), default=None)

    async def catch_up(self) -> None:
        """Start what the clock has made due. Delayed messages, schedules and reports are done when this returns."""
        self.delivery.sender.sweep()
        self.delivery.dispatcher.timers.wake_due()
        self.delivery.pulls.timers.wake_due()
        await self.jobs.scheduler.deliver_due()
        await self.jobs.missed_reports.report()

    async def run_jobs(self) -> None:
        """Do what is otherwise done every few seconds or minutes: delete, miss and verify what the clock says."""
        await self.jobs.retention.run()
        await self.delivery.pulls.miss_too_old()
        await self.jobs.verifier.round()
        await self.jobs.retention.flush_key_usage()

"""Listeners: their list; the backlog, problems and last responses of one; and all redeliveries and replays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from discue.control import activity, jobs, listener_secrets, listeners, messages
from discue.control.activity import PERIODS_AN_HOUR, Activity, ListenerPeriod, rate_a_minute, total
from discue.control.jobs import REDELIVERIES, REPLAYS, Job
from discue.control.listener_fields import LEASED_FOR_SECONDS, ListenerFields
from discue.control.listeners import ListenerDetails
from discue.dashboard import history
from discue.dashboard.charts import percentiles, sparkline
from discue.dashboard.listing import NO_ROWS, between, names_offered, noting_faults, selection_of, shown
from discue.dashboard.visit import PER_PAGE, Page, PageRoute, Redirect, Visit
from discue.domain.attempts import StoredAttempt
from discue.domain.errors import invalid
from discue.domain.listener_health import breaker_state
from discue.domain.model import MISSED_REASONS, JobListener
from discue.domain.reservations import GROUPS, PAGE
from discue.domain.retry import RetryOptions, effective_policy
from discue.store.missed_groups import MissedGroup
from discue.store.pagination import Listing, Selection
from discue.store.tallies import ListenerTally

STATE_WORDS: Final = {
    "disabled": "disabled",
    "failed": "inactive",
    "retrying": "retrying",
    "pending": "waiting",
    "missed": "has missed some",
    "acknowledged": "up to date",
}


def state_of(details: ListenerDetails) -> str:
    """Return the state of a listener: whether it receives, and whether messages wait for it or are retried."""
    if details.listener.status == "disabled":
        return "disabled"
    if details.condition.held_by:
        return "failed"
    # Of a listener in pull mode, the count includes messages that its consumers work on.
    if (details.listener.mode == "push" and details.counts.retrying) or details.condition.is_recovering:
        return "retrying"
    if details.counts.pending:
        return "pending"
    return "missed" if details.counts.missed else "acknowledged"


@dataclass(frozen=True, slots=True)
class ListenerRow:
    details: ListenerDetails
    hour: ListenerTally

    @property
    def state(self) -> str:
        """The state in one word, which is also the class of its colour."""
        return state_of(self.details)

    @property
    def last_failure(self) -> StoredAttempt | None:
        """The last failed attempt, if messages are retried or missed, or nothing was acknowledged since."""
        counts = self.details.counts
        is_failing = counts.retrying or counts.missed or counts.last_failure_at > counts.last_success_at
        return self.details.last_failure if is_failing else None

    @property
    def path(self) -> str:
        listener = self.details.listener
        return f"/queues/{listener.queue_public_id}/listeners/{listener.public_id}"


async def rows_of(visit: Visit, found: Sequence[ListenerDetails]) -> Sequence[ListenerRow]:
    hours = await activity.past_hour(visit.control, [each.listener for each in found])
    return [ListenerRow(each, hours[each.listener.id]) for each in found]


async def show_list(visit: Visit) -> Page:
    selection, state = selection_of(visit, "alias"), visit.query.get("state", "").strip()
    with noting_faults(visit):
        if state and state not in STATE_WORDS:
            raise invalid("/state", f"must be one of {', '.join(STATE_WORDS)}")
    found: Listing[ListenerDetails] = NO_ROWS
    if not visit.wrong:
        found = await _page_in_state(visit, selection, state) if state else await _page(visit, selection)
    page = shown(visit, found, [each.listener.public_id for each in found.items], "alias", "state")
    values = {
        "list": page,
        "rows": await rows_of(visit, found.items),
        "offered": await names_offered(visit, "listener", page),
        "state": state,
    }
    return Page("listeners.html", "Listeners", values, is_live=True)


async def _page(visit: Visit, selection: Selection) -> Listing[ListenerDetails]:
    return await listeners.page(visit.control, visit.principal, selection, with_missed=False)


_READ_AT_ONCE: Final = 50
_READ_FOR_A_PAGE: Final = 500
"""Maximum number of listeners that are read for a page of those in a state. The next page continues after them."""


async def _page_in_state(visit: Visit, selection: Selection, state: str) -> Listing[ListenerDetails]:
    """Return the next listeners in a state. No column has the state: it follows from the counts and the liveness."""
    if visit.reservation is not None:
        await visit.reservation.enlarge(PAGE.of(_READ_AT_ONCE)._replace(rows=_READ_FOR_A_PAGE))
    is_back, size = selection.after is None and selection.before is not None, selection.per_page
    part, found, end, has_more = replace(selection, per_page=_READ_AT_ONCE), list[ListenerDetails](), None, True
    for _ in range(_READ_FOR_A_PAGE // _READ_AT_ONCE):
        read = await _page(visit, part)
        looked_at = read.items[::-1] if is_back else read.items
        found += [each for each in looked_at if state_of(each) == state]
        has_more = read.has_previous if is_back else read.has_next
        if len(found) > size or not (has_more and looked_at):
            break
        end = looked_at[-1].listener.public_id
        part = replace(part, before=end) if is_back else replace(part, after=end)
    items, has_others = found[:size], selection.after is not None or is_back
    if len(found) > size:
        end, has_more = None, True
    if is_back:
        return Listing(tuple(items[::-1]), has_others, has_more, resumes_before=end)
    return Listing(tuple(items), has_more, has_others, resumes_after=end)


_DRAWN: Final = 100
"""Number of attempts that are drawn, and from which p50 and p95 are computed. The table shows the first of them."""
_OF_ATTEMPTS: Final = ("outcome", "status", "since", "until")

_BREAKER: Final = {"closed": "closed: everything is sent", "half_open": "half open: a little is sent", "open": "open"}
_JOBS: Final = 10


async def show(visit: Visit) -> Page:
    details = await details_of(visit)
    since = await listeners.waiting_since(visit.control, details) if details.counts.pending else 0
    day = await activity.of_listener(visit.control, details.listener)
    return Page(
        "listener.html",
        details.listener.alias,
        {
            **frame(visit, details),
            **await last_attempts(visit, details),
            "waiting_since": since,
            **await drawn(visit, details, day),
            "rate": rate_a_minute(_made(day[-2]), _made(day[-1]), visit.now - day[-1].started_at),
        },
        is_live=True,
    )


async def drawn(visit: Visit, details: ListenerDetails, day: Sequence[ListenerPeriod]) -> dict[str, object]:
    """Return the template values of the chart of a listener's attempts, and of its success rates."""
    periods = [Activity(each.started_at, 0, each.tally.acknowledged, each.tally.failed) for each in day]
    chart = await history.drawn(visit, periods, details.listener.id)
    return {"hour": total(day[-PERIODS_AN_HOUR:]), "day": total(day), **chart}


def _made(period: ListenerPeriod) -> int:
    return period.tally.acknowledged + period.tally.failed


async def last_attempts(visit: Visit, details: ListenerDetails) -> dict[str, object]:
    """Return the values of the list of a listener's attempts, and of their drawing."""
    selection = between(visit, selection_of(visit, "outcome", "status", per_page=_DRAWN))
    found: Listing[StoredAttempt] = NO_ROWS
    if not visit.wrong:
        found = await messages.page_of_listener_attempts(visit.control, visit.principal, details, selection)
    listed = _first_of(found, PER_PAGE, is_back=selection.after is None and selection.before is not None)
    chosen = {name: visit.query.get(name, "").strip() for name in (*_OF_ATTEMPTS, "after", "before")}
    return {
        "list": shown(visit, listed, [each.id for each in listed.items], *_OF_ATTEMPTS, "range"),
        "made": len(found.items),
        "acknowledged": sum(not each.error for each in found.items),
        "spark": sparkline(found.items),
        "durations": percentiles(found.items) if details.listener.mode == "push" else None,
        "is_newest": not any(chosen.values()),
        **{name: chosen[name] for name in _OF_ATTEMPTS},
    }


def _first_of(found: Listing[StoredAttempt], most: int, *, is_back: bool) -> Listing[StoredAttempt]:
    """Return the first `most` of the rows that were read; the last ones if the page was reached by going back."""
    if len(found.items) <= most:
        return found
    if is_back:
        return replace(found, items=found.items[-most:], has_previous=True, resumes_before=None)
    return replace(found, items=found.items[:most], has_next=True, resumes_after=None)


async def show_missed(visit: Visit) -> Page:
    details = await details_of(visit)
    selection, found = selection_of(visit, "reason", "group"), NO_ROWS
    causes: Sequence[MissedGroup] = ()
    if not {"reason", "group", "after", "before"} & visit.query.keys():
        if visit.reservation is not None:
            await visit.reservation.enlarge(GROUPS)
        causes = await messages.groups_of_listener(visit.control, visit.principal, details)
    if not visit.wrong:
        found = await messages.page_of_missed(visit.control, visit.principal, details, selection, by_position=True)
    values = {
        **frame(visit, details),
        "list": shown(visit, found, [], "reason", "group"),
        "causes": causes,
        "reason": visit.query.get("reason", ""),
        "reasons": MISSED_REASONS,
    }
    return Page("listener_missed.html", details.listener.alias, values, is_live=True)


async def show_jobs(visit: Visit) -> Page:
    details, selection = await details_of(visit), Selection(per_page=_JOBS)
    moved = await REDELIVERIES.page(visit.control, visit.principal, details, selection)
    replays = await REPLAYS.page(visit.control, visit.principal, details, selection)
    own, listener = visit.principal.organization, details.listener.id
    failures = await messages.last_failures_of_listeners(visit.control, own, [listener])
    waits = await jobs.waits_for_turns(visit.control, visit.principal, replays.items)
    values = {
        **frame(visit, details),
        "redeliveries": moved.items,
        "replays": replays.items,
        "failure": failures.get(listener),
        "waits_for_turns": waits,
    }
    return Page("listener_jobs.html", details.listener.alias, values, is_live=True)


async def show_settings(visit: Visit) -> Page:
    details = await details_of(visit)
    secrets = await listener_secrets.page(visit.control, visit.principal, visit.ids)
    listener = details.listener
    values = {
        **frame(visit, details),
        **defaults(visit, listener.queue_retry),
        "policy": effective_policy(visit.default_retry, listener.queue_retry, listener.options.retry),
        "secrets": secrets.items,
    }
    return Page("listener_settings.html", listener.alias, values)


async def enable(visit: Visit) -> Redirect:
    fields = ListenerFields(status="enabled")
    await listeners.change(visit.control, visit.principal, *visit.ids, fields=fields)
    return Redirect(path_of(visit), "enabled")


def frame(visit: Visit, details: ListenerDetails) -> dict[str, object]:
    """Return the values of the head of every page of a listener."""
    state, queue = state_of(details), visit.ids[0]
    return {
        "link": f"{visit.base}{path_of(visit)}",
        "queue_link": f"{visit.base}/queues/{queue}",
        "details": details,
        "listener": details.listener,
        "counts": details.counts,
        "state": state,
        "state_word": STATE_WORDS[state],
        "breaker": _BREAKER[breaker_state(details.liveness)],
    }


def defaults(visit: Visit, queue_retry: RetryOptions | None) -> dict[str, object]:
    """Return the values of settings that a listener of a queue does not set."""
    settings = visit.control.settings
    return {
        "timeout": settings.delivery_timeout_seconds,
        "max_in_flight": settings.listener_max_in_flight,
        "lease": LEASED_FOR_SECONDS,
        "policy": effective_policy(visit.default_retry, queue_retry),
    }


def path_of(visit: Visit) -> str:
    return f"/queues/{visit.ids[0]}/listeners/{visit.ids[1]}"


async def details_of(visit: Visit) -> ListenerDetails:
    """Return the listener that the page is about, without the ids of its missed messages."""
    return await listeners.get(visit.control, visit.principal, *visit.ids, with_missed=False)


_LISTENER: Final = "/queues/{id}/listeners/{id}"


async def show_redeliveries(visit: Visit) -> Page:
    found = await REDELIVERIES.page_of_all(visit.control, visit.principal, selection_of(visit))
    return await _jobs_page(visit, "Redeliveries", found, kind="redelivery")


async def show_replays(visit: Visit) -> Page:
    found = await REPLAYS.page_of_all(visit.control, visit.principal, selection_of(visit))
    waits = await jobs.waits_for_turns(visit.control, visit.principal, [replay for replay, _ in found.items])
    open_at = {listener.public_id for replay, listener in found.items if replay.ended_at is None}
    holds = await listeners.holds(visit.control, visit.principal, open_at)
    return await _jobs_page(visit, "Replays", found, kind="replay", waits_for_turns=waits, holds=holds)


async def _jobs_page(visit: Visit, title: str, found: Listing[tuple[Job, JobListener]], **values: object) -> Page:
    page = shown(visit, found, [job.public_id for job, _ in found.items])
    ids = sorted({job.listener for job, _ in found.items})
    failures = await messages.last_failures_of_listeners(visit.control, visit.principal.organization, ids)
    return Page("jobs.html", title, {"list": page, "failures": failures, **values})


ROUTES: Final = (
    PageRoute("/listeners", show_list, needs="listeners"),
    PageRoute(_LISTENER, show, enable, needs="listeners"),
    PageRoute(f"{_LISTENER}/missed", show_missed, needs="listeners"),
    PageRoute(f"{_LISTENER}/jobs", show_jobs, needs="listeners"),
    PageRoute(f"{_LISTENER}/settings", show_settings, needs="listeners"),
    PageRoute("/jobs", show_redeliveries, needs="listeners"),
    PageRoute("/jobs/replays", show_replays, needs="listeners"),
)

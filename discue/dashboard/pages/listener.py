"""A listener: whether it keeps up, why not, and what it answered last."""

from collections.abc import Sequence
from typing import Final

from discue.control import jobs, listener_activity, listener_secrets, listeners, messages, missed
from discue.control.activity import Activity
from discue.control.jobs import REDELIVERIES, REPLAYS
from discue.control.listener_activity import PERIODS_AN_HOUR, ListenerPeriod, total
from discue.control.listener_fields import ListenerFields
from discue.control.listener_options import LEASED_FOR_SECONDS
from discue.control.listeners import ListenerDetails
from discue.control.usage import rate_a_minute
from discue.dashboard.charts import HALF_HOUR, columns, sparkline
from discue.dashboard.listing import NO_ROWS, selection_of, shown
from discue.dashboard.route import PageRoute
from discue.dashboard.states import STATE_WORDS, state_of
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.listener_health import breaker_state
from discue.domain.model import MISSED_REASONS
from discue.domain.reservations import HTML_PAGE
from discue.domain.retry import RetryOptions, effective_policy
from discue.store.pagination import Selection

_BREAKER: Final = {"closed": "closed: everything is sent", "half_open": "half open: a little is sent", "open": "open"}
_JOBS: Final = 10


async def show(visit: Visit) -> Page:
    """Show the last attempts."""
    details = await details_of(visit)
    since = await listeners.waiting_since(visit.control, details) if details.counts.pending else 0
    day = await listener_activity.of_listener(visit.control, details.listener)
    return Page(
        "listener.html",
        details.listener.alias,
        {
            **frame(visit, details),
            **await last_attempts(visit, details),
            "since": since,
            **drawn(day),
            "rate": rate_a_minute(_made(day[-2]), _made(day[-1]), visit.now - day[-1].started_at),
        },
        is_live=True,
    )


def drawn(day: Sequence[ListenerPeriod]) -> dict[str, object]:
    """Return the values of the chart of a listener's past day, and of its shares of successes."""
    periods = [Activity(each.started_at, 0, each.tally.acknowledged, each.tally.failed) for each in day]
    return {"hour": total(day[-PERIODS_AN_HOUR:]), "day": total(day), "chart": columns(periods, HALF_HOUR)}


def _made(period: ListenerPeriod) -> int:
    return period.tally.acknowledged + period.tally.failed


async def last_attempts(visit: Visit, details: ListenerDetails) -> dict[str, object]:
    """Return the values of the list of a listener's attempts, and of their drawing."""
    selection = selection_of(visit, "outcome", "status")
    found = NO_ROWS
    if not visit.wrong:
        found = await messages.page_of_listener_attempts(visit.control, visit.principal, details, selection)
    return {
        "list": shown(visit, found, [each.id for each in found.items], "outcome", "status"),
        "made": len(found.items),
        "acknowledged": sum(not each.error for each in found.items),
        "spark": sparkline(found.items),
        "outcome": visit.query.get("outcome", "").strip(),
        "status": visit.query.get("status", "").strip(),
    }


async def show_missed(visit: Visit) -> Page:
    details = await details_of(visit)
    selection, found = selection_of(visit, "reason"), NO_ROWS
    if not visit.wrong:
        found = await missed.positions(visit.control, visit.principal, details, selection)
    values = {
        **frame(visit, details),
        "list": shown(visit, found, [], "reason"),
        "reason": visit.query.get("reason", ""),
        "reasons": MISSED_REASONS,
    }
    return Page("listener_missed.html", details.listener.alias, values, is_live=True)


async def show_jobs(visit: Visit) -> Page:
    """Show redeliveries and replays, with their progress."""
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
        "policy": effective_policy(listener.queue_retry, listener.options.retry),
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
        "policy": effective_policy(queue_retry),
    }


def path_of(visit: Visit) -> str:
    """Return the path of the listener that the page is about."""
    return f"/queues/{visit.ids[0]}/listeners/{visit.ids[1]}"


async def details_of(visit: Visit) -> ListenerDetails:
    """Return the listener that the page is about, without the ids of its missed messages."""
    return await listeners.get(visit.control, visit.principal, *visit.ids, with_missed=False)


_LISTENER: Final = "/queues/{id}/listeners/{id}"

ROUTES: Final = (
    PageRoute(_LISTENER, show, enable, needs="listeners", reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/missed", show_missed, needs="listeners", reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/jobs", show_jobs, needs="listeners", reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/settings", show_settings, needs="listeners", reads=HTML_PAGE),
)

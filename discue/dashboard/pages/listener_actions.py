"""Actions on a listener. Each is a page with a preview and a form, which works without scripts."""

from typing import Any, Final

from discue.control import listener_secrets, listener_tests, listeners, messages
from discue.control.jobs import REDELIVERIES, REPLAYS, RedeliveryParams, ReplayParams
from discue.control.listener_fields import ListenerFields
from discue.control.listener_secrets import LONGEST_OVERLAP_SECONDS, SecretFields
from discue.control.listener_tests import SampleMessage
from discue.control.listeners import ListenerDetails
from discue.dashboard.fields import DATA_FORM_BYTES, number_of, value_of
from discue.dashboard.listing import id_given, noting_faults
from discue.dashboard.pages.listener import details_of, frame, path_of
from discue.dashboard.route import PageRoute
from discue.dashboard.times import instant_of
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.errors import invalid
from discue.domain.message_data import data_of
from discue.domain.model import MISSED_REASONS
from discue.domain.reservations import HTML_PAGE
from discue.store.pagination import Selection
from discue.store.replays import COUNTED

_HOUR: Final = 3_600
_HIGHEST_RATE: Final = 100_000
_SAMPLE: Final = '{\n  "test": true\n}'


async def show_disable(visit: Visit) -> Page:
    return await _page(visit, "disable.html", "Disable")


async def disable(visit: Visit) -> Redirect:
    await listeners.change(visit.control, visit.principal, *visit.ids, fields=ListenerFields(status="disabled"))
    return Redirect(path_of(visit), "disabled")


async def show_rotate(visit: Visit) -> Page:
    return await _page(visit, "rotate.html", "Rotate secret", hours=visit.form.get("hours", "24"))


async def rotate(visit: Visit) -> Page:
    """Create a secret, and show it: this is the only time."""
    most = LONGEST_OVERLAP_SECONDS // _HOUR
    hours = _number(visit, "hours", range(most + 1))
    fields = SecretFields(expire_previous_in=(24 if hours is None else hours) * _HOUR)
    made = await listener_secrets.create(visit.control, visit.principal, visit.ids, fields)
    values = {"heading": "New signing secret", "text": made.text, "link": path_of(visit), "back": "the listener"}
    return Page("secret.html", "New signing secret", values)


async def show_test(visit: Visit) -> Page:
    form = visit.form
    if not form:
        data = _SAMPLE
        with noting_faults(visit):
            if message_id := id_given(visit, "message"):
                found = await messages.timeline(
                    visit.control,
                    visit.principal,
                    (visit.ids[0], message_id),
                    Selection(per_page=1),
                    reserve=visit.reserve_data,
                )
                data = (found.message.body or b"").decode(errors="replace")
        form = {"data": data, "as": "json"}
    return await _page(visit, "test.html", "Send a test", form=form, result=None)


async def test(visit: Visit) -> Page:
    """Send a sample now, and show what the listener answered. Nothing is stored."""
    data, codec = data_of(value_of(visit.form.get("data", ""), visit.form.get("as", "json")))
    result = await listener_tests.send(
        visit.control, visit.principal, visit.ids, SampleMessage(data, codec), sender=visit.services.samples
    )
    return await _page(visit, "test.html", "Send a test", form=visit.form, result=result)


async def show_redeliver(visit: Visit) -> Page:
    """Show what would be sent again."""
    given, details = visit.form or visit.query, await details_of(visit)
    preview = None
    if visit.error is None:
        with noting_faults(visit):
            preview = await REDELIVERIES.preview(visit.control, visit.principal, details, _redelivery_params(visit))
    return _page_of(
        visit,
        details,
        "redeliver.html",
        "Redeliver",
        given={name: given.get(name, "").strip() for name in ("message", "reason", "pace")},
        preview=preview,
        reasons=MISSED_REASONS,
    )


async def redeliver(visit: Visit) -> Redirect:
    await REDELIVERIES.create(visit.control, visit.principal, visit.ids, _redelivery_params(visit))
    return Redirect(f"{path_of(visit)}/jobs", "redelivering")


def _redelivery_params(visit: Visit) -> RedeliveryParams:
    message, given = id_given(visit, "message"), visit.form or visit.query
    reason = given.get("reason", "")
    if reason and reason not in MISSED_REASONS:
        raise invalid("/reason", f"must be one of {', '.join(MISSED_REASONS)}")
    return RedeliveryParams(
        messages=(message,) if message else None,
        reason=reason or None,
        pace=_number(visit, "pace", range(1, _HIGHEST_RATE + 1)),
    )


async def show_replay(visit: Visit) -> Page:
    """Show how many messages a replay would send."""
    given, details = visit.form or visit.query, await details_of(visit)
    preview = None
    if visit.error is None and given.get("from"):
        with noting_faults(visit):
            preview = await REPLAYS.preview(visit.control, visit.principal, details, _replay_params(visit))
    shown = {name: given.get(name, "") for name in ("from", "until", "pace")}
    return _page_of(visit, details, "replay.html", "Replay", given=shown, preview=preview, counted=COUNTED)


async def replay(visit: Visit) -> Redirect:
    await REPLAYS.create(visit.control, visit.principal, visit.ids, _replay_params(visit))
    return Redirect(f"{path_of(visit)}/jobs", "replaying")


def _replay_params(visit: Visit) -> ReplayParams:
    given = visit.form or visit.query
    if not given.get("from", "").strip():
        raise invalid("/from", "must be a time")
    until = given.get("until", "").strip()
    return ReplayParams(
        from_at=instant_of(given["from"], "/from"),
        until_at=instant_of(until, "/until") if until else None,
        pace=_number(visit, "pace", range(1, _HIGHEST_RATE + 1)),
    )


async def cancel(visit: Visit) -> Redirect:
    """Cancel the redelivery or the replay that the form names."""
    job = id_given(visit, "job")
    if visit.form.get("kind") == "replay":
        await REPLAYS.cancel(visit.control, visit.principal, visit.ids, job)
    else:
        await REDELIVERIES.cancel(visit.control, visit.principal, visit.ids, job)
    return Redirect(f"{path_of(visit)}/jobs", "cancelled")


async def show_cancel(visit: Visit) -> Page:
    job, kind = id_given(visit, "job"), (visit.form or visit.query).get("kind", "redelivery")
    if not job:
        raise invalid("/job", "must be the id of a redelivery or a replay")
    return await _page(visit, "cancel.html", "Cancel", job=job, kind=kind)


async def show_delete(visit: Visit) -> Page:
    return await _page(visit, "listener_delete.html", "Delete this listener")


async def delete(visit: Visit) -> Redirect:
    await listeners.delete(visit.control, visit.principal, *visit.ids)
    return Redirect(f"/queues/{visit.ids[0]}/listeners", "listener_deleted")


async def _page(visit: Visit, template: str, title: str, **values: Any) -> Page:
    return _page_of(visit, await details_of(visit), template, title, **values)


def _page_of(visit: Visit, details: ListenerDetails, template: str, title: str, **values: Any) -> Page:
    name = details.listener.alias if visit.principal.customer is None else details.listener.endpoint
    return Page(template, f"{title} · {name}", {**frame(visit, details), "heading": title, **values})


def _number(visit: Visit, name: str, within: range) -> int | None:
    """Return a number of the form or the query; None if it is left out. Raises Unprocessable."""
    return number_of((visit.form or visit.query).get(name, ""), name, within)


_LISTENER: Final = "/queues/{id}/listeners/{id}"

ROUTES: Final = (
    PageRoute(f"{_LISTENER}/delete", show_delete, delete, needs="listeners", is_form=True, reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/disable", show_disable, disable, needs="listeners", is_form=True, reads=HTML_PAGE),
    PageRoute(
        f"{_LISTENER}/rotate", show_rotate, rotate, needs="listeners", is_form=True, grants_access=True, reads=HTML_PAGE
    ),
    PageRoute(
        f"{_LISTENER}/test",
        show_test,
        test,
        needs="listeners",
        is_form=True,
        form_bytes=DATA_FORM_BYTES,
        waits=True,
        reads=HTML_PAGE,
    ),
    PageRoute(f"{_LISTENER}/redeliver", show_redeliver, redeliver, needs="listeners", is_form=True, reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/replay", show_replay, replay, needs="listeners", is_form=True, reads=HTML_PAGE),
    PageRoute(f"{_LISTENER}/cancel", show_cancel, cancel, needs="listeners", is_form=True, reads=HTML_PAGE),
)

"""Actions on a listener. Each is a page with a preview and a form, which works without scripts."""

from functools import partial
from typing import Any, Final

from discue.control import listener_secrets, listener_tests, listeners
from discue.control.jobs import REDELIVERIES, REPLAYS, TRIALS, RedeliveryParams, ReplayParams
from discue.control.listener_fields import ListenerFields
from discue.control.listener_secrets import LONGEST_OVERLAP_SECONDS, SecretFields
from discue.control.listener_tests import SampleMessage
from discue.control.listeners import ListenerDetails
from discue.dashboard.fields import DATA_FORM_BYTES, instant_of, number_of, value_of
from discue.dashboard.listing import id_given, noting_faults
from discue.dashboard.pages.listeners import details_of, frame, path_of
from discue.dashboard.pages.message import message_of
from discue.dashboard.visit import Page, Redirect, Visit, form_route
from discue.domain.errors import invalid
from discue.domain.event_types import checked_type
from discue.domain.message_data import data_of
from discue.domain.messages import MessageOptions
from discue.domain.model import MISSED_REASONS
from discue.store.replays import COUNTED

_HOUR: Final = 3_600
_HIGHEST_RATE: Final = 100_000
_SAMPLE: Final = '{\n  "test": true\n}'


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
                data = ((await message_of(visit, message_id)).body or b"").decode(errors="replace")
        form = {"data": data, "as": "json"}
    return await _page(visit, "test.html", "Send a test", form=form, result=None)


async def test(visit: Visit) -> Page:
    """Send a sample now, and show what the listener answered. Nothing is stored."""
    data, codec = data_of(value_of(visit.form.get("data", ""), visit.form.get("as", "json")))
    options = MessageOptions(type=checked_type(visit.form.get("type", "").strip() or None, ()))
    sample = SampleMessage(data, codec, options)
    result = await listener_tests.send(visit.control, visit.principal, visit.ids, sample, sender=visit.services.samples)
    return await _page(visit, "test.html", "Send a test", form=visit.form, result=result)


async def show_redeliver(visit: Visit) -> Page:
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
        given={name: given.get(name, "").strip() for name in ("message", "reason", "group", "trial", "pace")},
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
        group=given.get("group", "").strip() or None,
        trial=_number(visit, "trial", TRIALS),
        pace=_number(visit, "pace", range(1, _HIGHEST_RATE + 1)),
    )


async def show_replay(visit: Visit) -> Page:
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


async def show_cancel(visit: Visit, kind: str = "") -> Page:
    job, kind = id_given(visit, "job"), kind or (visit.form or visit.query).get("kind", "redelivery")
    if not job:
        raise invalid("/job", "must be the id of a redelivery or a replay")
    return await _page(visit, "cancel.html", "Cancel", job=job, kind=kind)


async def cancel(visit: Visit, kind: str = "") -> Redirect:
    """Cancel the redelivery or the replay that the form names. Without `kind`, the form has the kind as well."""
    jobs = REPLAYS if (kind or visit.form.get("kind")) == "replay" else REDELIVERIES
    await jobs.cancel(visit.control, visit.principal, visit.ids, id_given(visit, "job"))
    return Redirect(f"{path_of(visit)}/jobs", "cancelled")


async def delete(visit: Visit) -> Redirect:
    await listeners.delete(visit.control, visit.principal, *visit.ids)
    return Redirect(f"/queues/{visit.ids[0]}/listeners", "listener_deleted")


async def _page(visit: Visit, template: str, title: str, **values: Any) -> Page:
    return _page_of(visit, await details_of(visit), template, title, **values)


def _page_of(visit: Visit, details: ListenerDetails, template: str, title: str, **values: Any) -> Page:
    name = details.listener.alias if visit.principal.customer is None else details.listener.endpoint
    return Page(template, f"{title} · {name}", {**frame(visit, details), "heading": title, **values})


def _number(visit: Visit, name: str, within: range) -> int | None:
    return number_of((visit.form or visit.query).get(name, ""), name, within)


SHOW_DISABLE: Final = partial(_page, template="disable.html", title="Disable")
_SHOW_DELETE: Final = partial(_page, template="listener_delete.html", title="Delete this listener")
_LISTENER: Final = "/queues/{id}/listeners/{id}"

ROUTES: Final = (
    form_route(f"{_LISTENER}/delete", _SHOW_DELETE, delete, "listeners"),
    form_route(f"{_LISTENER}/disable", SHOW_DISABLE, disable, "listeners"),
    form_route(f"{_LISTENER}/rotate", show_rotate, rotate, "listeners", grants_access=True),
    form_route(f"{_LISTENER}/test", show_test, test, "listeners", form_bytes=DATA_FORM_BYTES, waits=True),
    form_route(f"{_LISTENER}/redeliver", show_redeliver, redeliver, "listeners"),
    form_route(f"{_LISTENER}/replay", show_replay, replay, "listeners"),
    form_route(f"{_LISTENER}/cancel", show_cancel, cancel, "listeners"),
)

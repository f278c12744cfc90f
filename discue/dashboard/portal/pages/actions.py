"""Actions on an endpoint. They are those of the dashboard on a listener, as far as the session permits them."""

from typing import Final

from discue.dashboard.pages import listener, listener_actions
from discue.dashboard.portal import sessions
from discue.dashboard.portal.pages.endpoint import ENDPOINT
from discue.dashboard.portal.pages.event_types import example_of_queue
from discue.dashboard.portal.route import PortalRoute, of_portal
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.reservations import HTML_PAGE

_TEST_BYTES: Final = 262_144
"""The largest form of a test."""


async def show_test(visit: Visit) -> Page:
    """Show the form, with the example of the event type unless a message was chosen."""
    page = await listener_actions.show_test(visit)
    if visit.form or visit.query.get("message"):
        return page
    found = await sessions.schemas_of(visit.control, of_portal(visit).details, visit.ids[:1])
    example = "".join(map(example_of_queue, found))
    form = {**page.values["form"], **({"data": example} if example else {})}
    return Page(page.template, page.title, {**page.values, "form": form})


async def cancel_redelivery(visit: Visit) -> Redirect:
    visit.form = {**visit.form, "kind": "redelivery"}
    return await listener_actions.cancel(visit)


async def show_cancel_redelivery(visit: Visit) -> Page:
    visit.query = {**visit.query, "kind": "redelivery"}
    return await listener_actions.show_cancel(visit)


async def cancel_replay(visit: Visit) -> Redirect:
    visit.form = {**visit.form, "kind": "replay"}
    return await listener_actions.cancel(visit)


async def show_cancel_replay(visit: Visit) -> Page:
    visit.query = {**visit.query, "kind": "replay"}
    return await listener_actions.show_cancel(visit)


ROUTES: Final = (
    PortalRoute(
        f"{ENDPOINT}/disable",
        listener_actions.show_disable,
        listener_actions.disable,
        action="disable",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/enable",
        listener_actions.show_disable,
        listener.enable,
        action="disable",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/rotate",
        listener_actions.show_rotate,
        listener_actions.rotate,
        action="secrets",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/test",
        show_test,
        listener_actions.test,
        action="test",
        is_form=True,
        form_bytes=_TEST_BYTES,
        waits=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/redeliver",
        listener_actions.show_redeliver,
        listener_actions.redeliver,
        action="redeliver",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/replay",
        listener_actions.show_replay,
        listener_actions.replay,
        action="replay",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/cancel-redelivery",
        show_cancel_redelivery,
        cancel_redelivery,
        action="redeliver",
        is_form=True,
        reads=HTML_PAGE,
    ),
    PortalRoute(
        f"{ENDPOINT}/cancel-replay", show_cancel_replay, cancel_replay, action="replay", is_form=True, reads=HTML_PAGE
    ),
)

"""Bounds of portal sessions, and of what they permit."""

from functools import partial

import msgspec
import pytest

from discue.control import listeners, queues, usage
from discue.control.context import ControlContext
from discue.control.jobs import REPLAYS, ReplayParams
from discue.control.listener_fields import ListenerFields
from discue.control.queues import QueueFields
from discue.control.usage import EventSelection
from discue.dashboard.portal import sessions, tables
from discue.dashboard.portal.rules import ACTIONS, PortalGrant, PortalSession, PortalTheme, principal_of
from discue.dashboard.portal.sessions import PortalSessionFields
from discue.domain.errors import Forbidden, Unprocessable
from discue.domain.scopes import Principal
from discue.store import events
from tests.dashboard.users.signing_in import Door, a_user
from tests.support.cast import Cast
from tests.support.clocks import NOON


async def _sessions(control: ControlContext, principal: Principal) -> list[str]:
    found = await sessions.page(control, principal, principal.organization_public_id)
    return [session.public_id for session in found.items]


async def test_sessions_of_customers_hide_no_sign_ins(
    cast: Cast, control: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 1)
    alice = cast.alice.principal
    await queues.create(control, alice, QueueFields("orders"))
    for _ in range(3):
        fields = PortalSessionFields("acme", queues=["orders"])
        made = (await sessions.create(control, alice, alice.organization_public_id, fields)).session
        await sessions.revoke(control, alice, alice.organization_public_id, made.public_id)
    await a_user(cast)
    await Door(control).sign_in()
    found = [each.type for each in (await usage.page_of_events(control, alice, EventSelection())).events]
    expected = {"portal_session_added": 3, "portal_session_deleted": 3, "session_added": 1}
    assert {kind: found.count(kind) for kind in found if "session" in kind} == expected


async def test_theme_beyond_the_limit_is_refused_unless_it_is_in_use(
    cast: Cast, control: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_THEMES", 1)
    alice = cast.alice.principal
    await queues.create(control, alice, QueueFields("orders"))

    async def create(theme: PortalTheme) -> str:
        fields = PortalSessionFields("acme", queues=["orders"], theme=theme)
        return (await sessions.create(control, alice, alice.organization_public_id, fields)).session.public_id

    first = await create(PortalTheme("#4a41d8"))
    used = (await usage.used_quotas(control, alice)).used
    with pytest.raises(Unprocessable, match="at most 100 are in use at the same time") as refused:
        await create(PortalTheme("#000000"))
    assert [fault.pointer for fault in refused.value.faults] == ["/theme"]
    assert await _sessions(control, alice) == [first]
    assert (await usage.used_quotas(control, alice)).used == used

    made = [await create(theme) for theme in (PortalTheme("#4a41d8"), PortalTheme())]
    for session in (first, made[0]):
        await sessions.revoke(control, alice, alice.organization_public_id, session)
    made[0] = await create(PortalTheme("#000000"))
    assert sorted(await _sessions(control, alice)) == sorted(made)


async def test_customer_creates_edits_and_replays_in_their_own_queues_only(cast: Cast, control: ControlContext) -> None:
    """The grant of the session does not matter."""
    alice, url = cast.alice.principal, ListenerFields(notify_url="https://example.com/acme")
    made = {
        name: (await queues.create(control, alice, QueueFields(name, customer=customer))).queue
        for name, customer in (("own", "acme"), ("shared", None), ("foreign", "globex"))
    }
    ids = tuple(each.public_id for each in made.values())
    grant = PortalGrant(ids, may=ACTIONS)
    session = PortalSession(alice.organization, 1, "s" * 21, "acme", grant, NOON, NOON, NOON)
    acme = principal_of(session, alice.organization_public_id, ids)
    for name in ("own", "shared"):
        fields = msgspec.structs.replace(url, customer="acme")
        listener = (await listeners.create(control, alice, made[name].public_id, fields)).listener
        path = (made[name].public_id, listener.public_id)
        disabled = await listeners.change(control, acme, *path, fields=ListenerFields(status="disabled"))
        assert disabled.listener.status == "disabled"
        details = await listeners.get(control, acme, *path)

        mixed = ListenerFields(status="enabled", notify_url="https://example.com/other")
        for act in (
            partial(listeners.create, control, acme, path[0], url),
            partial(listeners.change, control, acme, *path, fields=url),
            partial(listeners.change, control, acme, *path, fields=mixed),
            partial(REPLAYS.create, control, acme, path, ReplayParams(from_at=0)),
            partial(REPLAYS.preview, control, acme, details, ReplayParams(from_at=0)),
        ):
            if name == "own":
                await act()
            else:
                with pytest.raises(Forbidden, match="only in queues of its customer"):
                    await act()
    with pytest.raises(Forbidden):
        await listeners.create(control, acme, made["foreign"].public_id, url)

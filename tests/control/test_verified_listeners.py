"""Organizations that want their listeners on domains of their own."""

import msgspec
import pytest

from discue.control import domains, listeners, organizations, queues
from discue.control.context import ControlContext
from discue.control.domains import DomainFields
from discue.control.listeners import ListenerFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.domain.errors import NotFound, Unprocessable
from tests.support.cast import Cast

PLACE = DomainFields(hostname="shop.example.com")


async def _require(control: ControlContext, cast: Cast, *, required: bool | None = True) -> None:
    principal = cast.alice.principal
    fields = OrganizationFields(require_verified_domains=required)
    await organizations.change(control, principal, principal.organization_public_id, fields)


def _urls(notify_url: str, liveness_url: str | None = None) -> ListenerFields:
    return ListenerFields(notify_url=notify_url, liveness_url=liveness_url or notify_url)


async def _queue(control: ControlContext, cast: Cast) -> str:
    return (await queues.create(control, cast.alice.principal, QueueFields())).queue.public_id


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        (_urls("https://other.example.com/", "https://shop.example.com/"), "/notify_url"),
        (_urls("https://shop.example.com/", "https://shop.example.com:8443/"), "/liveness_url"),
        (_urls("http://shop.example.com/", "https://shop.example.com/"), "/notify_url"),
        (_urls("https://a.shop.example.com/"), "/notify_url"),
        (_urls("https://8.8.8.8/"), "/notify_url"),
    ],
)
async def test_listener_must_be_on_a_domain_of_the_organization_if_required(
    cast: Cast, control: ControlContext, fields: ListenerFields, pointer: str
) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast)
    await listeners.create(control, principal, queue, fields)
    await _require(control, cast)
    await domains.create(control, principal, PLACE)
    await domains.create(control, cast.charlie.principal, DomainFields(hostname="other.example.com"))
    with pytest.raises(Unprocessable) as refused:
        await listeners.create(control, principal, queue, fields)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]
    made = await listeners.create(control, principal, queue, _urls("https://SHOP.example.com:443/a?b"))
    with pytest.raises(Unprocessable):
        await listeners.change(control, principal, queue, made.listener.public_id, fields)
    await _require(control, cast, required=False)
    await listeners.change(control, principal, queue, made.listener.public_id, fields)


async def test_a_registered_domain_will_do_and_need_not_be_verified_yet(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast)
    await _require(control, cast)
    await domains.create(control, principal, DomainFields(hostname="shop.example.com", port=80))
    await listeners.create(control, principal, queue, _urls("http://shop.example.com/"))


async def test_listeners_that_were_there_before_can_be_changed_as_long_as_they_stay_where_they_are(
    cast: Cast, control: ControlContext
) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast)
    before = _urls("https://old.example.com/")
    made = (await listeners.create(control, principal, queue, before)).listener
    await _require(control, cast)
    again = msgspec.structs.replace(before, alias="renamed", status="disabled")
    changed = await listeners.change(control, principal, queue, made.public_id, again)
    assert (changed.listener.alias, changed.listener.notify_url) == ("renamed", "https://old.example.com/")
    for fields in (
        ListenerFields(notify_url="https://old.example.com/2"),
        ListenerFields(liveness_url="https://x.example/"),
    ):
        with pytest.raises(Unprocessable):
            await listeners.change(control, principal, queue, made.public_id, fields)


async def test_organization_can_require_verified_domains(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    own = principal.organization_public_id
    assert "require_verified_domains" not in (await organizations.get(control, principal, own)).settings
    for required, shown in ((True, True), (None, None), (True, True), (False, None)):
        await _require(control, cast, required=required)
        changed = await organizations.get(control, principal, own)
        assert changed.settings.get("require_verified_domains") == shown
    await _require(control, cast)
    await organizations.change(control, cast.olga.principal, own, OrganizationFields(rate_limit=7))
    settings = (await organizations.get(control, principal, own)).settings
    assert settings == {"require_verified_domains": True, "rate_limit": 7}
    with pytest.raises(NotFound):
        await organizations.change(
            control, cast.charlie.principal, own, OrganizationFields(require_verified_domains=False)
        )
    made = await organizations.create(control, cast.olga.principal, OrganizationFields(require_verified_domains=True))
    assert made.organization.settings == {"require_verified_domains": True}

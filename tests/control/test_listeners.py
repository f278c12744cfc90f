from dataclasses import replace

import msgspec
import pytest
from msgspec import UNSET

from discue.control import domains, listeners, organizations, queues
from discue.control.context import ControlContext
from discue.control.domains import DomainFields
from discue.control.listener_fields import ListenerFields
from discue.control.listeners import ListenerDetails
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.crypto.signing import NO_SECRETS, decode_secret
from discue.domain.egress import EgressPolicy
from discue.domain.errors import BadRequest, Forbidden, NotFound, Unprocessable
from discue.domain.scopes import Scope
from discue.store import purge
from tests.support.cast import Cast, Person

NOTIFY, LIVE = "https://example.com/notify", "https://Example.com:443/live?x=%41"
URLS = ListenerFields(notify_url=NOTIFY, liveness_url=LIVE)


async def _queue(control: ControlContext, person: Person) -> str:
    return (await queues.create(control, person.principal, QueueFields())).queue.public_id


async def _listener(control: ControlContext, person: Person, queue: str) -> ListenerDetails:
    return await listeners.create(control, person.principal, queue, URLS)


async def test_secret_is_returned_once_and_urls_as_sent(cast: Cast, control: ControlContext) -> None:
    queue = await _queue(control, cast.alice)
    made = await _listener(control, cast.alice, queue)
    assert made.secret.startswith("whsec_")
    assert len(decode_secret(made.secret)) == 32
    read = await listeners.get(control, cast.alice.principal, queue, made.listener.public_id)
    assert read == msgspec.structs.replace(made, secret="")
    assert (read.listener.notify_url, read.listener.liveness_url) == (NOTIFY, LIVE)
    assert made.secret not in repr(made)
    assert read.listener.secrets == NO_SECRETS


async def test_push_listener_requires_a_notify_url(cast: Cast, control: ControlContext) -> None:
    fields = ListenerFields(liveness_url=LIVE)
    with pytest.raises(BadRequest) as refused:
        await listeners.create(control, cast.alice.principal, await _queue(control, cast.alice), fields)
    assert [fault.pointer for fault in refused.value.faults] == ["/notify_url"]


async def test_liveness_url_is_optional_and_can_be_removed(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast.alice)
    made = (await listeners.create(control, principal, queue, ListenerFields(notify_url=NOTIFY))).listener
    assert made.liveness_url == ""
    for given, expected in ((LIVE, LIVE), (UNSET, LIVE), (None, ""), (UNSET, "")):
        fields = ListenerFields(liveness_url=given)
        changed = await listeners.change(control, principal, queue, made.public_id, fields=fields)
        assert changed.listener.liveness_url == expected


async def test_required_domains_do_not_require_a_liveness_url(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast.alice)
    await _require(control, cast)
    await domains.create(control, principal, DomainFields(hostname="shop.example.com", port=443))
    fields = ListenerFields(notify_url="https://shop.example.com/")
    assert (await listeners.create(control, principal, queue, fields)).listener.liveness_url == ""


@pytest.mark.parametrize("field", ["notify_url", "liveness_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::ffff:169.254.169.254]/latest",
        "https://10.0.0.1:8443/x",
        "",
    ],
)
async def test_forbidden_urls_are_rejected_with_a_pointer(
    cast: Cast, control: ControlContext, field: str, url: str
) -> None:
    queue = await _queue(control, cast.alice)
    with pytest.raises(Unprocessable) as refused:
        await listeners.create(control, cast.alice.principal, queue, msgspec.structs.replace(URLS, **{field: url}))
    assert [fault.pointer for fault in refused.value.faults] == [f"/{field}"]
    made = (await _listener(control, cast.alice, queue)).listener.public_id
    with pytest.raises(Unprocessable):
        await listeners.change(
            control, cast.alice.principal, queue, made, fields=msgspec.structs.replace(ListenerFields(), **{field: url})
        )


async def test_operator_can_allow_private_targets(cast: Cast) -> None:
    control = replace(cast.control, egress=EgressPolicy(allow_private=True))
    fields = msgspec.structs.replace(URLS, notify_url="http://127.0.0.1:9/")
    queue = await _queue(control, cast.alice)
    assert (await listeners.create(control, cast.alice.principal, queue, fields)).listener.status == "enabled"


async def test_change_sets_only_given_fields_and_increments_the_version(cast: Cast, control: ControlContext) -> None:
    queue = await _queue(control, cast.alice)
    made = (await _listener(control, cast.alice, queue)).listener
    cast.clock.advance(5)
    changed = await listeners.change(
        control, cast.alice.principal, queue, made.public_id, fields=ListenerFields(status="disabled")
    )
    assert changed.listener == msgspec.structs.replace(
        made,
        status="disabled",
        config_version=2,
        updated_at=made.updated_at + 5,
        disabled_by="request",
        status_changed_at=made.updated_at + 5,
    )
    assert changed.secret == ""


async def test_status_says_why_and_since_when_a_listener_receives_nothing(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast.alice)
    made = await _listener(control, cast.alice, queue)
    created_at, path = cast.clock.now(), (queue, made.listener.public_id)
    assert (made.condition.reason, made.status_changed_at) == ("", created_at)
    cast.clock.advance(5)
    disabled = await listeners.change(control, principal, *path, fields=ListenerFields(status="disabled"))
    assert (disabled.condition.reason, disabled.status_changed_at) == ("It is disabled by a request.", created_at + 5)
    cast.clock.advance(5)
    # A change of other fields, or to the same status, is no change of the status.
    again = await listeners.change(control, principal, *path, fields=ListenerFields(status="disabled", alias="other"))
    assert (again.condition.reason, again.status_changed_at) == ("It is disabled by a request.", created_at + 5)
    enabled = await listeners.change(control, principal, *path, fields=ListenerFields(status="enabled"))
    assert (enabled.condition.reason, enabled.status_changed_at) == ("", created_at + 10)
    await _require(control, cast)
    found = await listeners.get(control, principal, *path)
    assert found.condition.reason == "It is not sent to because the domain of its `notify_url` is not verified."


async def test_deletion_frees_the_alias_at_once(cast: Cast, control: ControlContext) -> None:
    queue = await _queue(control, cast.alice)
    fields = msgspec.structs.replace(URLS, alias="billing")
    made = (await listeners.create(control, cast.alice.principal, queue, fields)).listener
    await listeners.delete(control, cast.alice.principal, queue, made.public_id)
    with pytest.raises(NotFound):
        await listeners.get(control, cast.alice.principal, queue, made.public_id)
    await listeners.create(control, cast.alice.principal, queue, fields)
    job = await control.store.read(purge.next_after)
    assert job is not None
    assert (job.kind, job.listener) == ("purge_listener", made.id)


async def test_key_limited_to_a_listener_reaches_only_that_one_and_creates_none(
    cast: Cast, control: ControlContext
) -> None:
    queue = await _queue(control, cast.alice)
    mine, other = [(await _listener(control, cast.alice, queue)).listener.public_id for _ in range(2)]
    bob = (await cast.bob({"listeners": Scope("write", (mine,))})).principal
    for page in (await listeners.page(control, bob), await listeners.page_of_queue(control, bob, queue)):
        assert [item.listener.public_id for item in page.items] == [mine]
    await listeners.change(control, bob, queue, mine, fields=ListenerFields(status="disabled"))
    for refused in (
        listeners.create(control, bob, queue, URLS),
        listeners.get(control, bob, queue, other),
        listeners.delete(control, bob, queue, other),
    ):
        with pytest.raises(Forbidden):
            await refused


PLACE = DomainFields(hostname="shop.example.com")


async def _require(control: ControlContext, cast: Cast, *, required: bool | None = True) -> None:
    principal = cast.alice.principal
    fields = OrganizationFields(require_verified_domains=required)
    await organizations.change(control, principal, principal.organization_public_id, fields)


def _urls(notify_url: str, liveness_url: str | None = None) -> ListenerFields:
    return ListenerFields(notify_url=notify_url, liveness_url=liveness_url or notify_url)


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
async def test_required_domains_apply_to_both_urls_of_a_listener(
    cast: Cast, control: ControlContext, fields: ListenerFields, pointer: str
) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast.alice)
    await listeners.create(control, principal, queue, fields)
    await _require(control, cast)
    await domains.create(control, principal, PLACE)
    await domains.create(control, cast.charlie.principal, DomainFields(hostname="other.example.com"))
    with pytest.raises(Unprocessable) as refused:
        await listeners.create(control, principal, queue, fields)
    assert [fault.pointer for fault in refused.value.faults] == [pointer]
    made = await listeners.create(control, principal, queue, _urls("https://SHOP.example.com:443/a?b"))
    with pytest.raises(Unprocessable):
        await listeners.change(control, principal, queue, made.listener.public_id, fields=fields)
    await _require(control, cast, required=False)
    await listeners.change(control, principal, queue, made.listener.public_id, fields=fields)


async def test_existing_listener_can_change_if_its_urls_stay(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await _queue(control, cast.alice)
    before = _urls("https://old.example.com/")
    made = (await listeners.create(control, principal, queue, before)).listener
    await _require(control, cast)
    again = msgspec.structs.replace(before, alias="renamed", status="disabled")
    changed = await listeners.change(control, principal, queue, made.public_id, fields=again)
    assert (changed.listener.alias, changed.listener.notify_url) == ("renamed", "https://old.example.com/")
    for fields in (
        ListenerFields(notify_url="https://old.example.com/2"),
        ListenerFields(liveness_url="https://x.example/"),
    ):
        with pytest.raises(Unprocessable):
            await listeners.change(control, principal, queue, made.public_id, fields=fields)


async def test_organization_decides_whether_domains_are_required(cast: Cast, control: ControlContext) -> None:
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
    made = await organizations.create(control, cast.olga.principal, OrganizationFields(require_verified_domains=True))
    assert made.organization.settings == {"require_verified_domains": True}

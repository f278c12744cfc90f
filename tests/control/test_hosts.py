import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from discue.control import listeners, queues
from discue.control.context import ControlContext
from discue.control.hosts import HostChecks
from discue.control.listener_fields import ListenerFields
from discue.control.queues import QueueFields
from discue.crypto.endpoint_credentials import AuthenticationFields
from discue.domain.egress import EgressPolicy, EgressProxy, IPAddress, parse_target
from discue.domain.errors import Unprocessable
from tests.support.cast import Cast

NAMED = "https://intern.example.com/notify"
REFUSED = "must have a public address; the operator can allow others with `allow_private_targets`"
REFUSED_ADDRESSES = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"]


class Names:
    """A resolver that knows the addresses of one host, and counts the lookups."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.lookups = 0

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        self.lookups += 1
        if host != "intern.example.com":
            raise OSError("unknown name")
        return [ip_address(address) for address in self.addresses]


async def queue_of(control: ControlContext, cast: Cast) -> str:
    return (await queues.create(control, cast.alice.principal, QueueFields())).queue.public_id


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
@pytest.mark.parametrize("field", ["notify_url", "liveness_url", "token_url"])
async def test_new_url_whose_name_resolves_to_a_refused_address_is_refused_with_one_sentence(
    cast: Cast, control: ControlContext, address: str, field: str
) -> None:
    control = replace(control, hosts=HostChecks(Names(address)))
    principal, queue = cast.alice.principal, await queue_of(control, cast)
    public = "https://shop.example.com/notify"
    made = await listeners.create(control, principal, queue, ListenerFields(notify_url=public))
    login = AuthenticationFields(type="oauth2", token_url=NAMED, client_id="ada", client_secret="s3cr3t")
    fields = {
        "notify_url": ListenerFields(notify_url=NAMED),
        "liveness_url": ListenerFields(notify_url=public, liveness_url=NAMED),
        "token_url": ListenerFields(notify_url=public, authentication=login),
    }[field]
    for refused in (
        listeners.create(control, principal, queue, fields),
        listeners.change(control, principal, queue, made.listener.public_id, fields=fields),
    ):
        with pytest.raises(Unprocessable) as raised:
            await refused
        pointer = "/authentication/token_url" if field == "token_url" else f"/{field}"
        assert (raised.value.code, raised.value.faults) == ("address_refused", ((pointer, REFUSED),))


async def test_url_that_the_listener_has_already_is_not_refused(cast: Cast, control: ControlContext) -> None:
    principal, queue = cast.alice.principal, await queue_of(control, cast)
    names = Names("203.0.114.1")
    control = replace(control, hosts=HostChecks(names))
    made = await listeners.create(control, principal, queue, ListenerFields(notify_url=NAMED))
    names.addresses = ("127.0.0.1",)
    same = ListenerFields(notify_url=NAMED, alias="renamed")
    changed = await listeners.change(control, principal, queue, made.listener.public_id, fields=same)
    assert changed.listener.alias == "renamed"


@pytest.mark.parametrize("addresses", [["127.0.0.1", "203.0.114.1"], [], ["203.0.114.1"]])
async def test_name_with_an_allowed_address_or_none_is_accepted(addresses: list[str]) -> None:
    assert await HostChecks(Names(*addresses)).refused([NAMED], EgressPolicy()) == set()


async def test_name_that_does_not_resolve_is_accepted() -> None:
    assert await HostChecks(Names()).refused(["https://other.example.com/"], EgressPolicy()) == set()


async def test_literal_addresses_are_not_looked_up_nor_names_where_private_targets_are_allowed() -> None:
    names = Names("127.0.0.1")
    hosts = HostChecks(names)
    assert await hosts.refused(["https://127.0.0.1/", "not a URL"], EgressPolicy()) == set()
    assert await hosts.refused([NAMED], EgressPolicy(allow_private=True)) == set()
    assert names.lookups == 0


async def test_slow_name_server_delays_a_request_by_the_limit_only_and_its_lookups_do_not_collect() -> None:
    asked: list[str] = []

    async def hang(host: str, port: int) -> Sequence[IPAddress]:
        asked.append(host)
        await asyncio.Event().wait()
        raise AssertionError

    hosts = HostChecks(hang, lookup_seconds=0.05)
    for server in "abc":
        urls = [f"https://{server}{number}.example.com/" for number in range(40)]
        assert await asyncio.wait_for(hosts.refused(urls, EgressPolicy()), 5) == set()
    assert len(asked) == 16


async def test_name_that_the_proxy_resolves_is_not_looked_up(cast: Cast, control: ControlContext) -> None:
    names, proxy = Names("127.0.0.1"), EgressProxy(parse_target("http://127.0.0.1:3128", ""))
    control = replace(control, hosts=HostChecks(names), egress=EgressPolicy(proxy=proxy))
    principal, queue = cast.alice.principal, await queue_of(control, cast)
    await listeners.create(control, principal, queue, ListenerFields(notify_url=NAMED))
    with pytest.raises(Unprocessable):
        await listeners.create(control, principal, queue, ListenerFields(notify_url="https://10.0.0.1/"))
    assert names.lookups == 0
    control = replace(control, egress=EgressPolicy(proxy=proxy, direct=("intern.example.com",)))
    with pytest.raises(Unprocessable):
        await listeners.create(control, principal, queue, ListenerFields(notify_url=NAMED))
    assert names.lookups == 1

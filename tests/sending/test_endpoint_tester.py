"""Tests of listeners on the wire: on connections of their own, a few at a time."""

import asyncio
from functools import partial
from ipaddress import ip_network

import pytest

from discue.domain.egress import PUBLIC_ADDRESSES, EgressPolicy
from discue.domain.errors import TooManyRequests
from discue.sending.endpoint_auth import AccessTokens
from discue.sending.endpoint_tester import MAX_IN_FLIGHT_PER_ORGANIZATION, RATE, EndpointTester
from discue.sending.fetch import Fetcher
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from tests.support.attempts import MovableClock, request_to
from tests.support.scripted_server import HANG, READ, ScriptedServer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANYWHERE = EgressPolicy(allow_private=True)


def make_tester(
    clock: MovableClock | None = None, policy: EgressPolicy = ANYWHERE, public: EgressPolicy = PUBLIC_ADDRESSES
) -> EndpointTester:
    clock = clock or MovableClock()
    tokens = AccessTokens(Fetcher(policy=policy), clock)
    return EndpointTester(partial(Sender, policy=policy, public=public), tokens, clock, SenderLimits())


async def test_each_test_request_uses_a_new_connection_and_keeps_none() -> None:
    tester = make_tester()
    async with ScriptedServer([(READ, OK, HANG)]) as server:
        for _ in range(2):
            outcome = await tester.attempt(1, request_to(server.url, is_test=True))
            assert outcome.trace is not None
            assert (outcome.status, outcome.excerpt, outcome.trace.is_reused) == (200, b"ok", False)
            assert outcome.trace.timings.connect_ms is not None
        assert [each.connection for each in server.requests] == [0, 1]
        assert [each.headers["discue-test"] for each in server.requests] == ["true", "true"]
    await tester.close()


async def test_delivery_has_no_test_header() -> None:
    tester = make_tester()
    async with ScriptedServer([(READ, OK, HANG)]) as server:
        await tester.attempt(1, request_to(server.url))
        assert "discue-test" not in server.requests[0].headers
    await tester.close()


async def test_test_requests_of_an_organization_are_limited_without_affecting_others() -> None:
    tester = make_tester()
    async with ScriptedServer([(READ, HANG)]) as server:
        request = request_to(server.url)
        in_flight = [asyncio.create_task(tester.attempt(1, request)) for _ in range(MAX_IN_FLIGHT_PER_ORGANIZATION)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refused:
            await tester.attempt(1, request)
        assert refused.value.retry_after_seconds == 1
        in_flight.append(asyncio.create_task(tester.attempt(2, request)))
        # A client that leaves frees no slot: its request is still in flight.
        in_flight[0].cancel()
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await tester.attempt(1, request)
        await tester.close()
        ended = await asyncio.gather(*in_flight[1:])
        assert {each.error for each in ended} == {"internal"}
        assert (await tester.attempt(1, request)).error == "internal"


async def test_test_requests_have_a_burst_of_ten_and_one_per_second() -> None:
    clock = MovableClock()
    tester = make_tester(clock, EgressPolicy())
    request = request_to("http://127.0.0.1:9/")
    for _ in range(RATE.burst):
        assert (await tester.attempt(1, request)).error == "refused_address"
    with pytest.raises(TooManyRequests):
        await tester.attempt(1, request)
    assert (await tester.attempt(2, request)).error == "refused_address"
    clock.added_seconds += 1
    assert (await tester.attempt(1, request)).error == "refused_address"
    await tester.close()


async def test_response_of_a_private_address_is_hidden() -> None:
    public = EgressPolicy(allowed_networks=(ip_network("127.0.0.2/32"),))
    tester = make_tester(public=public)
    async with ScriptedServer([(READ, OK, HANG)]) as server:
        assert (await tester.attempt(1, request_to(server.url))).withheld
        elsewhere = server.url.replace("127.0.0.1", "127.0.0.2")
        assert not (await tester.attempt(1, request_to(elsewhere))).withheld
        assert (await tester.attempt(1, request_to("http://[::1]:9/"))).withheld
    await tester.close()

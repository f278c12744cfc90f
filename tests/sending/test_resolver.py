"""Lookups share what they can, and hold nobody up."""

import asyncio
import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from discue.sending.dialer import Resolver

IPV4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))


async def test_all_addresses_of_a_name_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        assert (host, port) == ("both.example", 80)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
            IPV4,
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    found = await Resolver()("both.example", 80)
    assert found == [ip_address("2001:db8::1"), ip_address("192.0.2.1")]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
async def test_a_name_that_does_not_exist_is_an_os_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def lookup(*_: Any, **__: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    with pytest.raises(OSError, match=r"unknown|label"):
        await Resolver()("none.example", 80)


async def test_lookups_of_one_name_share_a_request_that_outlives_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[str] = []
    answer_now = threading.Event()

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        lookups.append(host)
        answer_now.wait(10)
        return [IPV4]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    resolver = Resolver()
    impatient, patient = [asyncio.ensure_future(resolver("slow.example", 80)) for _ in range(2)]
    await asyncio.wait([impatient], timeout=0)
    impatient.cancel()
    await asyncio.wait([impatient])
    answer_now.set()
    assert await patient == [ip_address("192.0.2.1")]
    assert lookups == ["slow.example"]
    await resolver("slow.example", 80)
    assert lookups == ["slow.example"] * 2


async def test_a_name_that_hangs_does_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up = threading.Event()

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        if host == "hangs.example":
            give_up.wait(10)
        return [IPV4]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    resolver = Resolver()
    hanging = asyncio.ensure_future(resolver("hangs.example", 80))
    assert await resolver("quick.example", 80)
    assert not hanging.done()
    give_up.set()
    assert await hanging

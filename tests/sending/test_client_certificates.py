"""Certificates of our own in TLS: shown to the listener that they are for, and never to another one."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import trustme

from discue.crypto.endpoint_credentials import Credentials
from discue.domain.attempts import AttemptDetailLevel
from discue.domain.model import Authentication
from discue.sending.endpoint_auth import credentials_of
from discue.sending.request import ClientIdentity
from discue.sending.sender import Sender
from tests.support.attempts import a_sender, attempt, request_to
from tests.support.authority import server_context, trusting_context
from tests.support.scripted_server import HANG, READ, ScriptedServer, Step

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ALICE, BOB = "a" * 21, "b" * 21


@cache
def clients_authority() -> trustme.CA:
    return trustme.CA()


def identity_of(listener: str, authority: trustme.CA | None = None) -> ClientIdentity:
    made = (authority or clients_authority()).issue_cert(f"{listener}@example.com")
    chain = "".join(blob.bytes().decode() for blob in made.cert_chain_pems)
    public = Authentication("certificate", certificate=chain)
    identity = credentials_of(Credentials(public, made.private_key_pem.bytes().decode()), listener).identity
    assert identity is not None
    return identity


def asking_context(*, requires: bool = True) -> ssl.SSLContext:
    """For a server that asks for the certificates of clients."""
    context = server_context("127.0.0.1")
    clients_authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if requires else ssl.CERT_OPTIONAL
    return context


@asynccontextmanager
async def meeting(
    *script: Step, tls: ssl.SSLContext | None = None, details: AttemptDetailLevel = "none"
) -> AsyncIterator[tuple[ScriptedServer, Sender]]:
    """A server with this script, which requires a certificate of clients by default, and a sender that trusts it."""
    async with (
        ScriptedServer([script], tls or asking_context()) as server,
        a_sender(ssl_context=trusting_context(), details=details) as sender,
    ):
        yield server, sender


async def test_client_certificate_is_presented_to_its_listener() -> None:
    async with meeting(READ, OK, READ, OK, HANG, details="all") as (server, sender):
        mine = request_to(server.url, listener_id=ALICE, identity=identity_of(ALICE))
        first, second = await attempt(sender, mine), await attempt(sender, mine)
        assert (first.status, second.status) == (200, 200)
        assert second.trace is not None
        assert second.trace.is_reused


async def test_attempt_without_a_valid_client_certificate_fails() -> None:
    async with meeting(READ, OK, HANG) as (server, sender):
        for identity in (None, identity_of(ALICE, trustme.CA())):
            outcome = await attempt(sender, request_to(server.url, listener_id=ALICE, identity=identity))
            assert outcome.status == 0
            assert outcome.error in {"tls", "reset"}
        assert server.requests == []


async def test_connection_with_a_client_certificate_serves_one_listener() -> None:
    async with meeting(READ, OK, READ, OK, READ, OK, HANG, tls=asking_context(requires=False)) as (server, sender):
        who = {
            "alice": request_to(server.url, listener_id=ALICE, identity=identity_of(ALICE)),
            "bob": request_to(server.url, listener_id=BOB, identity=identity_of(BOB)),
            "nobody": request_to(server.url, listener_id="c" * 21),
        }
        for _ in range(2):
            for request in who.values():
                assert (await attempt(sender, request)).status == 200
        # Both rounds went over the same three connections, one of each.
        connections = [request.connection for request in server.requests]
        assert connections == [0, 1, 2, 0, 1, 2]


async def test_new_client_certificate_uses_a_new_connection() -> None:
    async with meeting(READ, OK, READ, OK, HANG) as (server, sender):
        for _ in range(2):
            request = request_to(server.url, listener_id=ALICE, identity=identity_of(ALICE))
            assert (await attempt(sender, request)).status == 200
        assert [request.connection for request in server.requests] == [0, 1]


async def test_client_certificate_does_not_make_a_server_trusted() -> None:
    async with meeting(READ, OK, HANG, tls=server_context("127.0.0.1", is_trusted=False)) as (server, sender):
        outcome = await attempt(sender, request_to(server.url, listener_id=ALICE, identity=identity_of(ALICE)))
        assert outcome.error == "tls"


async def test_unusable_client_certificate_fails_the_attempt() -> None:
    async with meeting(READ, OK, HANG) as (server, sender):
        broken = ClientIdentity("broken", identity_of(ALICE).certificate, identity_of(BOB).private_key)
        for _ in range(2):
            outcome = await attempt(sender, request_to(server.url, identity=broken))
            assert (outcome.status, outcome.error) == (0, "authentication")
            assert outcome.detail.startswith("The client certificate cannot be used")

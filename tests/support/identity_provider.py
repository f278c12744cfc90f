"""An identity provider on loopback, which checks what it is sent and can be made to misbehave."""

import asyncio
import hashlib
import json
import secrets
from base64 import b64decode
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from discue.domain.clock import Clock
from tests.support.id_tokens import encoded, jwk_of, key_set, rsa_key, signed

CLIENT_ID, CLIENT_SECRET = "discue", "s3cret/of client"


class IdentityProvider:
    """Serves discovery, keys and tokens. `authorize` takes the place of the page on which users sign in."""

    def __init__(self, clock: Clock, port: int = 0) -> None:
        """Without a `port` it gets a free one."""
        self._clock = clock
        self._port = port
        self._codes: dict[str, dict[str, str]] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self.requests: list[str] = []
        """The paths that were requested."""
        self.metadata: dict[str, Any] = {}
        """Changes to the discovery document."""
        self.claims: dict[str, Any] = {}
        """Changes to the claims of the next tokens."""
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.key = rsa_key()
        self.keys = key_set(jwk_of(rsa_key(), "one"))
        self.responses: dict[str, tuple[int, bytes]] = {}
        """Responses by path, instead of the right ones."""
        self.may_respond = asyncio.Event()
        """Cleared: it hangs."""
        self.may_respond.set()
        self._came = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.issuer = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def authorize(self, url: str, subject: str = "ada") -> dict[str, str]:
        """Sign a user in at the URL of the redirection, and return the query with which the browser goes back."""
        parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.issuer}/authorize"
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**query, "subject": subject}
        return {"code": code, "state": query["state"]}

    async def requested(self, times: int) -> None:
        """Wait until this many requests have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.requests) >= times)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        # The client closes a connection when it has what it wants.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines if each)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = line.split()[1]
            self.requests.append(path)
            async with self._came:
                self._came.notify_all()
            await self.may_respond.wait()
            status, content = self.responses.get(path) or self._response(path, headers, body)
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(content)) + content)
            await writer.drain()

    def _response(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self._discovery() | self.metadata).encode()
        if path == "/keys":
            return 200, self.keys
        if path == "/token":
            return self._token(headers, dict(parse_qsl(body.decode())))
        return 404, b""

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/logout",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "more": {"that": ["nobody", "reads"]},
        }

    def _token(self, headers: dict[str, str], form: dict[str, str]) -> tuple[int, bytes]:
        begun = self._codes.pop(form.get("code", ""), None)
        if begun is None or not _is_client(headers, form):
            return 400, b'{"error": "invalid_grant"}'
        challenge = encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (challenge, form["redirect_uri"]) != (begun["code_challenge"], begun["redirect_uri"]):
            return 400, b'{"error": "invalid_grant"}'
        now = self._clock.now() // 1_000
        claims = {
            "iss": self.issuer,
            "sub": begun["subject"],
            "aud": CLIENT_ID,
            "nonce": begun["nonce"],
            "iat": now,
            "exp": now + 300,
            "email": f"{begun['subject']}@example.com",
            "email_verified": True,
            "name": "Ada Lovelace",
            "groups": ["staff"],
        }
        if "max_age" in begun:
            claims["auth_time"] = now
        token = signed(self.header, claims | self.claims, self.key)
        return 200, json.dumps({"access_token": "x", "token_type": "Bearer", "id_token": token}).encode()


def _is_client(headers: dict[str, str], form: dict[str, str]) -> bool:
    if "client_secret" in form:
        return (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
    _, _, given = headers.get("authorization", "").partition(" ")
    name, _, secret = b64decode(given).decode().partition(":")
    return (unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)

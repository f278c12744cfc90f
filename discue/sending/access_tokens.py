"""Access tokens for requests to listeners: got with the credentials of a client, kept until shortly before they end."""

import asyncio
import re
from collections import OrderedDict
from functools import partial
from typing import Final

import msgspec

from discue.domain.clock import Clock
from discue.sending.fetch import Fetched, Fetcher
from discue.sending.presented import Grant

LONGEST_SECONDS: Final = 10.0
"""Getting one may take so long, and never longer than the attempt that it is for."""

TOKEN_BYTES: Final = 16_384
"""So much of an answer is read: one that is longer is none."""

_KEPT: Final = 10_000
_UNKNOWN_LIFE_SECONDS: Final = 60
_LONGEST_LIFE_SECONDS: Final = 86_400
_MARGIN: Final = 0.1
_LARGEST_MARGIN_SECONDS: Final = 60.0
_YOUNGEST_RENEWED_SECONDS: Final = 5.0
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")
_OK: Final = 200


class Token(msgspec.Struct, frozen=True):
    """Instants are readings of the monotonic clock. From `ends_at` on it is not used any more."""

    text: str
    got_at: float
    ends_at: float

    def __repr__(self) -> str:
        return f"Token(got_at={self.got_at}, ends_at={self.ends_at})"


class TokenRefused(Exception):
    """There is no token. What it says is for people, and nothing of the answer but the class of its status."""


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the word itself
    expires_in: float | str | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class AccessTokens:
    """One request at a time for each grant, whoever waits for it. Belongs to the event loop it is first used on."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        """The fetcher must keep TOKEN_BYTES."""
        self._fetcher = fetcher
        self._clock = clock
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Token | str]] = {}

    async def get(self, grant: Grant) -> Token:
        """One that is valid. Raises TokenRefused."""
        token = self._tokens.get(grant.name)
        if token is not None and self._clock.monotonic() < token.ends_at:
            self._tokens.move_to_end(grant.name)
            return token
        task = self._under_way.get(grant.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(grant))
            self._under_way[grant.name] = task
            task.add_done_callback(partial(self._ended, grant.name))
        found = await asyncio.shield(task)
        if isinstance(found, str):
            raise TokenRefused(found)
        return found

    def refuse(self, grant: Grant, token: Token) -> bool:
        """A listener did not take it. Whether to get another one: none in place of one that is only just there."""
        if self._clock.monotonic() - token.got_at < _YOUNGEST_RENEWED_SECONDS:
            return False
        if self._tokens.get(grant.name) is token:
            del self._tokens[grant.name]
        return True

    async def close(self) -> None:
        """Whoever waits for a token gets none."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, grant: Grant) -> Token | str:
        fetched = await self._fetcher.post_form(grant.target, grant.authorization, grant.form, LONGEST_SECONDS)
        token = _token_in(fetched, self._clock.monotonic())
        if isinstance(token, Token):
            self._tokens[grant.name] = token
            self._tokens.move_to_end(grant.name)
            if len(self._tokens) > _KEPT:
                self._tokens.popitem(last=False)
        return token

    def _ended(self, name: str, task: asyncio.Task[Token | str]) -> None:
        del self._under_way[name]
        if not task.cancelled():
            task.exception()


def _token_in(fetched: Fetched, now: float) -> Token | str:
    """The token of an answer, or why there is none."""
    if fetched.error:
        return f"No access token: the token URL could not be asked ({fetched.error})."
    if fetched.status != _OK:
        return f"No access token: the token URL answered {fetched.status // 100}xx."
    try:
        answer = _decode(fetched.body)
        life_seconds = _UNKNOWN_LIFE_SECONDS if answer.expires_in is None else float(answer.expires_in)
    except (ValueError, OverflowError):
        return "No access token: the answer of the token URL cannot be read."
    if answer.token_type.lower() != "bearer" or _TOKEN.fullmatch(answer.access_token) is None:
        return "No access token: the answer of the token URL has none that can be sent."
    if not life_seconds > 0:
        return "No access token: the one that the token URL answered has ended."
    life_seconds = min(life_seconds, _LONGEST_LIFE_SECONDS)
    return Token(answer.access_token, now, now + life_seconds - min(life_seconds * _MARGIN, _LARGEST_MARGIN_SECONDS))

"""Passwords of users (argon2id), and the invitations that let a user set one."""

import asyncio
import os
import sys
import unicodedata
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from discue.domain.api_key import hash_secret
from discue.domain.errors import Overloaded, invalid
from discue.domain.ids import RandomBytes, RandomText
from discue.domain.representation import shows

T = TypeVar("T")

SALT_BYTES: Final = 16
_LENGTHS: Final = range(8, 257)
_MOST_CHECKED_CHARACTERS: Final = 1_024
"""Longer text is no password, and is not normalized: that takes quadratic time if it consists of combining marks."""
MOST_THREADS: Final = 4
"""The largest number of hashes that run at once. Each takes 64 MiB."""
_NICENESS: Final = 10
"""With 19, the lowest priority, a sign-in would take a minute on a busy machine."""
_MOST_WAITING: Final = 32
"""The largest number of waiting hashes in a line: a few seconds of work. No sign-in may wait for minutes."""

STRANGERS: Final = 0
"""The line of unknown clients. Every other line belongs to the organization with that row id."""


def hash_threads(cores: int) -> int:
    """Return how many hashes run at once: one fewer than there are cores, at least one and at most `MOST_THREADS`."""
    return max(1, min(cores - 1, MOST_THREADS))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _lower_priority() -> None:
    """Give this thread a lower priority than all other threads of the service."""
    # On Linux, this changes the niceness of the thread only; elsewhere, it would change that of the process.
    if sys.platform == "linux":
        # A sandbox may forbid it.
        with suppress(PermissionError):
            os.nice(_NICENESS)


class HashCost(msgspec.Struct, frozen=True):
    """Cost of a password hash, and so of guessing a password."""

    memory_kib: int = 65_536
    iterations: int = 3
    lanes: int = 1


STANDARD: Final = HashCost()


def check_password(text: str, pointer: str = "/password") -> None:
    """Raise Unprocessable unless the password has 8 to 256 characters after normalization (NFC)."""
    if len(text) > _MOST_CHECKED_CHARACTERS or len(normalized(text)) not in _LENGTHS:
        raise invalid(pointer, f"must have {_LENGTHS.start} to {_LENGTHS.stop - 1} characters")


def normalized(text: str) -> str:
    """Return the text in NFC: keyboards send different sequences for the same characters."""
    return unicodedata.normalize("NFC", text)


def _encoded(password: str) -> bytes:
    # Lone surrogates have no encoding in UTF-8. A password with them is wrong, and not an error.
    return normalized(password).encode(errors="surrogatepass")


def hash_password(password: str, salt: bytes, cost: HashCost = STANDARD) -> str:
    """Return the hash with its salt and cost (PHC string); slow. `salt` must be 16 random bytes."""
    derivation = Argon2id(
        salt=salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return derivation.derive_phc_encoded(_encoded(password))


def verify_password(password: str, password_hash: str | None, cost: HashCost = STANDARD) -> bool:
    """Return whether the password is correct. Without a hash it is not, which takes just as long."""
    # Hash nevertheless: the response time must not reveal whether the user has a password.
    if password_hash is None:
        hash_password(password, bytes(SALT_BYTES), cost)
        return False
    try:
        Argon2id.verify_phc_encoded(_encoded(password), password_hash)
    except InvalidKey:
        return False
    return True


INVITATION_MS: Final = 7 * 86_400_000
"""How long an invitation is valid."""


@shows("expires_at")
class Invitation(NamedTuple):
    """A new invitation. Its token is shown once; only the hash is stored."""

    token: str
    expires_at: int
    """Milliseconds since the epoch."""

    @property
    def hash(self) -> bytes:
        return hash_secret(self.token)


def new_invitation(random_text: RandomText, now: int) -> Invitation:
    """Return an invitation with a token of 32 random characters: 190 bits, so a plain hash of it is enough."""
    return Invitation(random_text.take(32), now + INVITATION_MS)


class _Task(NamedTuple):
    work: Callable[[], Any]
    result: asyncio.Future[Any]


class PasswordHashing:
    """Hashes and checks passwords on threads of low priority, from one event loop.

    Clients wait in lines, which take turns: one line per organization, for clients that have signed in before or are
    signed in, and one for strangers. If there are several threads, strangers never use one of them. So strangers,
    however many, cannot cause a refusal of anyone else's sign-in, or delay it by more than one hash at a time.
    """

    def __init__(self, cost: HashCost = STANDARD, threads: int | None = None) -> None:
        """Start the threads. The defaults are the cost and the number of threads of a server."""
        self._cost = cost
        self._threads = hash_threads(_cores()) if threads is None else threads
        self._executor = ThreadPoolExecutor(self._threads, "password", initializer=_lower_priority)
        self._lines: dict[int, deque[_Task]] = {}
        """Waiting tasks by line. The first line is served next."""
        self._running = 0
        self._running_strangers = 0

    async def hash_of(self, password: str, random_bytes: RandomBytes, *, line: int) -> str:
        """Return the hash of a password in its stored form. Raises Overloaded."""
        salt = random_bytes(SALT_BYTES)
        return await self._run(lambda: hash_password(password, salt, self._cost), line)

    async def matches(self, password: str, password_hash: str | None, *, line: int) -> bool:
        """Return whether the password is correct. Without a hash it is not, which takes just as long.

        Raises Overloaded.
        """
        # A password that is cut is wrong: no stored one is as long.
        entered = password[:_MOST_CHECKED_CHARACTERS]
        return await self._run(lambda: verify_password(entered, password_hash, self._cost), line)

    def require_place(self, line: int) -> None:
        """Raise Overloaded if the line is full."""
        if len(self._lines.get(line, ())) >= _MOST_WAITING:
            raise Overloaded("Too many passwords are waiting to be checked. Try again soon.")

    async def _run(self, work: Callable[[], T], line: int) -> T:
        self.require_place(line)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(_Task(work, result))
        self._begin_next()
        return await result

    def _begin_next(self) -> None:
        while self._running < self._threads and (line := self._next_line()) is not None:
            # Removed first, so that the line moves to the end, behind the others.
            waiting = self._lines.pop(line)
            task = waiting.popleft()
            if waiting:
                self._lines[line] = waiting
            if not task.result.done():
                self._begin(task, line)

    def _next_line(self) -> int | None:
        """Return the next line; None if no waiting task may have a thread."""
        is_full = self._running_strangers >= max(1, self._threads - 1)
        return next((line for line in self._lines if line != STRANGERS or not is_full), None)

    def _begin(self, task: _Task, line: int) -> None:
        self._running += 1
        self._running_strangers += line == STRANGERS

        def end(done: asyncio.Future[Any]) -> None:
            self._running -= 1
            self._running_strangers -= line == STRANGERS
            error = done.exception()
            # A thread cannot be cancelled, so a client that disconnects frees no thread. Its result is dropped.
            if not task.result.done():
                task.result.set_result(done.result()) if error is None else task.result.set_exception(error)
            self._begin_next()

        asyncio.get_running_loop().run_in_executor(self._executor, task.work).add_done_callback(end)

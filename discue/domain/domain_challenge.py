"""Domain verification: the challenge, the check of a response, and when to check again."""

from typing import Final

import msgspec

from discue.domain.attempts import FailureKind, describe_failure
from discue.domain.egress import Target
from discue.domain.errors import invalid
from discue.domain.ids import RandomText

CONTEXT_PATH: Final = ".well-known/discue"
CHALLENGE_MS: Final = 7 * 86_400_000
DEFAULT_PORT: Final = 443

CHECK_TIMEOUT_SECONDS: Final = 10.0

RETRY_DELAYS_MS: Final = (60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000)
"""Delays before the first check, after the first failed one, and so on; the last one repeats."""

RECHECK_MS: Final = 86_400_000
"""Interval between a successful check and the next one."""

GRACE_MS: Final = 3 * 86_400_000
"""How long the checks of a verified domain must fail, without a success, before it loses its verification."""

CHECK_LOST_MS: Final = 60_000
"""Time after which a check without a result counts as lost with its worker."""

MIN_PAUSE_MS: Final = 2_000
"""Minimum time between a check and the next one on demand."""

EXPIRED: Final = "challenge expired"

_HTTP_PORT: Final = 80
_OTHER_PORTS: Final = range(1_024, 65_536)
_NAME_CHARACTERS: Final = 32
_CONTENT_CHARACTERS: Final = 43
_OK: Final = 200


class Challenge(msgspec.Struct, frozen=True):
    """A file that must be served from a domain. Times are in milliseconds since the epoch."""

    context_path: str
    """Path of the file's directory, without leading and trailing slashes."""
    file_name: str
    file_content: str
    created_at: int
    expires_at: int


class Verification(msgspec.Struct, frozen=True):
    """State of a domain's verification. Times are in milliseconds since the epoch; 0: never."""

    verified: bool = False
    verified_at: int = 0
    failures: int = 0
    """Failed checks since the last success."""
    failed_since: int = 0
    """The first of these failures."""
    last_error: str = ""
    """"" after a success."""
    tried_at: int = 0
    """Start of the last check."""
    checked_at: int = 0
    """End of the last check."""
    due_at: int | None = None
    """Next automatic check; None: no more checks."""


class Domain(msgspec.Struct, frozen=True):
    """A host and port that an organization claims."""

    organization: int
    id: int
    public_id: str
    alias: str
    hostname: str
    """The name in the form that the client sent."""
    host_key: str
    """The normalized DNS name."""
    port: int
    challenge: Challenge
    verification: Verification
    config_version: int
    created_at: int
    updated_at: int


def check_port(port: int) -> None:
    """Raise Unprocessable unless the port is allowed for domains."""
    if port not in {_HTTP_PORT, DEFAULT_PORT} and port not in _OTHER_PORTS:
        raise invalid("/port", "must be 80, 443 or from 1024 to 65535")


def new_challenge(random_text: RandomText, now: int) -> Challenge:
    return Challenge(
        context_path=CONTEXT_PATH,
        file_name=random_text.take(_NAME_CHARACTERS),
        file_content=random_text.take(_CONTENT_CHARACTERS),
        created_at=now,
        expires_at=now + CHALLENGE_MS,
    )


def after_change(challenge: Challenge, fresh: Challenge, *, verified: bool) -> Challenge:
    """Return the challenge of a domain that is changed now. `fresh` is a new challenge.

    A challenge that has not expired stays. A verified domain keeps its file, which later checks need, and gets a new
    period.
    """
    if fresh.created_at < challenge.expires_at:
        return challenge
    if verified:
        return msgspec.structs.replace(challenge, created_at=fresh.created_at, expires_at=fresh.expires_at)
    return fresh


def unverified(challenge: Challenge) -> Verification:
    """Return the verification of a new challenge. The first check leaves time to upload the file."""
    return Verification(due_at=challenge.created_at + RETRY_DELAYS_MS[0])


def target_of(host_key: str, port: int, challenge: Challenge) -> Target:
    scheme, default_port = ("http", 80) if port == _HTTP_PORT else ("https", 443)
    authority = host_key if port == default_port else f"{host_key}:{port}"
    path = f"/{challenge.context_path}/{challenge.file_name}"
    return Target(scheme, host_key, port, authority, path, None)


def check_error(failure: FailureKind, status: int, body: bytes, challenge: Challenge) -> str:
    """Return why a check failed, "" if it succeeded. Of the response it contains only the status."""
    if failure:
        return describe_failure(failure)
    if status != _OK:
        return f"answered {status}"
    return "" if body == challenge.file_content.encode() else "content differs"


def can_be_met(stored: Verification, challenge: Challenge, now: int) -> bool:
    """Return whether a check can still verify the domain, or keep it verified."""
    return stored.verified or now < challenge.expires_at


def may_check_now(stored: Verification, now: int) -> bool:
    """Return whether a check on demand may start: no check is in flight, and the last one did not just end."""
    if stored.tried_at > stored.checked_at:
        return now - stored.tried_at >= CHECK_LOST_MS
    return now - stored.checked_at >= MIN_PAUSE_MS


def before_check(stored: Verification, now: int) -> Verification:
    """Return the state when a check starts. No other check starts until it has ended or counts as lost."""
    # Postponed instead of cleared: if the worker dies during the check, it becomes due again.
    due_at = None if stored.due_at is None else max(stored.due_at, now + CHECK_LOST_MS)
    return msgspec.structs.replace(stored, tried_at=now, due_at=due_at)


def after_check(stored: Verification, challenge: Challenge, error: str, now: int) -> Verification:
    """Return the state after a check. `error` is "" if it succeeded."""
    if not error:
        return Verification(
            verified=True,
            verified_at=stored.verified_at if stored.verified else now,
            tried_at=stored.tried_at,
            checked_at=now,
            due_at=now + RECHECK_MS,
        )
    failed_since = stored.failed_since or now
    verified = stored.verified and now - failed_since < GRACE_MS
    failures = stored.failures + 1
    # Index 0 is the delay before the first check.
    due_at = now + RETRY_DELAYS_MS[min(failures, len(RETRY_DELAYS_MS) - 1)]
    return Verification(
        verified=verified,
        verified_at=stored.verified_at if verified else 0,
        failures=failures,
        failed_since=failed_since,
        last_error=error,
        tried_at=stored.tried_at,
        checked_at=now,
        due_at=due_at if verified or due_at < challenge.expires_at else None,
    )

"""How a domain is verified: its challenge, what an answer to that says, and when to look again. Pure."""

from typing import Final

import msgspec

from discue.domain.egress import Target
from discue.domain.errors import Fault, Unprocessable
from discue.domain.ids import RandomText
from discue.domain.model import Challenge, FailureKind, Verification

CONTEXT_PATH: Final = ".well-known/discue"
CHALLENGE_MS: Final = 7 * 86_400_000
DEFAULT_PORT: Final = 443

CHECK_SECONDS: Final = 10.0
"""What one check may take."""

RETRY_DELAYS_MS: Final = (60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000)
"""Before the first check, after the first failed one, and so on; the last stands for all later ones."""

RECHECK_MS: Final = 86_400_000
"""A verified domain is looked at again so long after it was found in order."""

DOUBT_MS: Final = 3 * 86_400_000
"""A verified domain whose checks have failed for so long, and never succeeded in between, is not verified any more."""

UNDER_WAY_MS: Final = 60_000
"""A check of which nothing was heard for so long has died with its worker."""

PAUSE_MS: Final = 2_000
"""A domain is not checked again on demand so soon after its last check."""

EXPIRED: Final = "challenge expired"

_HTTP_PORT: Final = 80
_OTHER_PORTS: Final = range(1_024, 65_536)
_NAME_CHARACTERS: Final = 32
_CONTENT_CHARACTERS: Final = 43
_OK: Final = 200

_NO_CONNECTION: Final = "no connection"

_REASONS: Final[dict[FailureKind, str]] = {
    "resolve": "name not found",
    "refused_address": "address not allowed",
    "tls": "TLS failed",
    "timeout": "no answer in time",
    "reset": "no answer",
    "protocol": "no answer",
    "response_too_large": "no answer",
}


def check_port(port: int) -> None:
    """Raise Unprocessable unless it is one that a domain can have."""
    if port not in {_HTTP_PORT, DEFAULT_PORT} and port not in _OTHER_PORTS:
        rule = "must be 80, 443 or from 1024 to 65535"
        raise Unprocessable(f"The port {rule}.", faults=(Fault("/port", rule),))


def new_challenge(random_text: RandomText, now: int) -> Challenge:
    """A challenge that nobody can guess."""
    return Challenge(
        context_path=CONTEXT_PATH,
        file_name=random_text.take(_NAME_CHARACTERS),
        file_content=random_text.take(_CONTENT_CHARACTERS),
        created_at=now,
        expires_at=now + CHALLENGE_MS,
    )


def renewed(challenge: Challenge, fresh: Challenge, *, verified: bool) -> Challenge:
    """What becomes of a challenge when its domain is changed; `fresh` is one of this moment.

    Before it has expired, nothing. That of a verified domain keeps its file, by which the domain is looked at again:
    only its time begins anew.
    """
    if fresh.created_at < challenge.expires_at:
        return challenge
    if verified:
        return msgspec.structs.replace(challenge, created_at=fresh.created_at, expires_at=fresh.expires_at)
    return fresh


def begun(challenge: Challenge) -> Verification:
    """Of a new challenge: not verified, and first checked when there was time to put the file there."""
    return Verification(due_at=challenge.created_at + RETRY_DELAYS_MS[0])


def target_of(host_key: str, port: int, challenge: Challenge) -> Target:
    """Where the file must be."""
    scheme, default_port = ("http", 80) if port == _HTTP_PORT else ("https", 443)
    authority = host_key if port == default_port else f"{host_key}:{port}"
    path = f"/{challenge.context_path}/{challenge.file_name}"
    return Target(scheme, host_key, port, authority, path, None)


def error_of(failure: FailureKind, status: int, body: bytes, challenge: Challenge) -> str:
    """What is wrong with an answer; "" if nothing is. It tells no more of it than its status."""
    if failure:
        return _REASONS.get(failure, _NO_CONNECTION)
    if status != _OK:
        return f"answered {status}"
    return "" if body == challenge.file_content.encode() else "content differs"


def can_be_met(stored: Verification, challenge: Challenge, now: int) -> bool:
    """Whether checking can still make, or keep, the domain verified."""
    return stored.verified or now < challenge.expires_at


def may_try(stored: Verification, now: int) -> bool:
    """Whether a check may begin on demand: none is under way, and the last one ended a moment ago at least."""
    if stored.tried_at > stored.checked_at:
        return now - stored.tried_at >= UNDER_WAY_MS
    return now - stored.checked_at >= PAUSE_MS


def tried(stored: Verification, now: int) -> Verification:
    """A check begins. Until its end is known, or it has died with its worker, no other one does."""
    due_at = None if stored.due_at is None else max(stored.due_at, now + UNDER_WAY_MS)
    return msgspec.structs.replace(stored, tried_at=now, due_at=due_at)


def after_check(stored: Verification, challenge: Challenge, error: str, now: int) -> Verification:
    """What follows from a check: of one without an error, that the domain is verified."""
    if not error:
        return Verification(
            verified=True,
            verified_at=stored.verified_at if stored.verified else now,
            tried_at=stored.tried_at,
            checked_at=now,
            due_at=now + RECHECK_MS,
        )
    failed_since = stored.failed_since or now
    verified = stored.verified and now - failed_since < DOUBT_MS
    failures = stored.failures + 1
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

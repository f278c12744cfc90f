"""Domains, with their challenges."""

import msgspec

from discue.api.wire.answer import Answer, Shown


class HttpsChallenge(msgspec.Struct, frozen=True):
    """The file that must be found. `context_path` has no outer slashes."""

    file_content: str
    file_name: str
    context_path: str
    created_at: int
    expires_at: int


class ChallengeShown(msgspec.Struct, frozen=True):
    https: HttpsChallenge


class VerificationShown(msgspec.Struct, frozen=True):
    """`verified_at` is 0 until it is verified, `checked_at` before the first check, `last_error` empty without one."""

    verified: bool
    verified_at: int
    checked_at: int
    last_error: str


class DomainShown(Shown, kw_only=True, frozen=True):
    hostname: str
    port: int
    challenge: ChallengeShown
    verification: VerificationShown


class Domain(Answer, kw_only=True, frozen=True):
    domain: DomainShown


class Domains(Answer, kw_only=True, frozen=True):
    domains: list[DomainShown]

"""One-time codes of authenticator apps (TOTP, RFC 6238), and the recovery codes for a lost device."""

import hmac
from base64 import b32decode, b32encode
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlencode

from discue.domain.api_key import hash_secret
from discue.domain.ids import RandomBytes

STEP_MS: Final = 30_000
"""How long a code is shown."""
DIGITS: Final = 6
RECOVERY_CODES: Final = 10

_SECRET_BYTES: Final = 20
"""The length that RFC 4226 recommends."""
_STEPS_APART: Final = (0, -1, 1)
"""Steps by which the clock of a device may differ, and in which a code that was just replaced is accepted."""
_RECOVERY_BYTES: Final = 10
"""80 bits, so a plain hash of a recovery code is enough."""
_GROUP: Final = 4


def new_secret(random_bytes: RandomBytes) -> bytes:
    """Return the secret that an app and the service share."""
    return random_bytes(_SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    """Return the code of a time step."""
    # SHA-1, because most apps support nothing else. HMAC does not depend on its resistance to collisions.
    digest = hmac.digest(secret, step.to_bytes(8), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4]) & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: bytes, code: str, now: int, last_step: int) -> int | None:
    """Return the time step of a valid code; None if it is wrong, or not newer than the last step that was accepted.

    Codes up to one step away from the service's time are accepted, spaces in them are ignored.
    """
    entered = "".join(code.split())
    if len(entered) != DIGITS or not (entered.isascii() and entered.isdigit()):
        return None
    current = now // STEP_MS
    # A step is accepted once, as RFC 6238 demands: someone who has watched the code being typed cannot use it.
    candidates = [current + apart for apart in _STEPS_APART if current + apart > last_step]
    matching = [step for step in candidates if hmac.compare_digest(code_at(secret, step), entered)]
    return matching[0] if matching else None


def secret_text(secret: bytes) -> str:
    """Return the secret as users type it into an app: base32 without padding."""
    return b32encode(secret).decode().rstrip("=")


def secret_of(text: str) -> bytes | None:
    """Return the secret that `secret_text` has written; None for other text."""
    try:
        secret = b32decode(text)
    except ValueError:
        return None
    return secret if len(secret) == _SECRET_BYTES else None


def uri_of(secret: bytes, issuer: str, account: str) -> str:
    """Return the `otpauth:` URI that apps read from a QR code."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    return f"otpauth://totp/{label}?{urlencode({'secret': secret_text(secret), 'issuer': issuer}, quote_via=quote)}"


def new_recovery_codes(random_bytes: RandomBytes) -> tuple[str, ...]:
    """Return codes that each sign in once without the device, such as `k3fa-9xqz-…`."""
    return tuple(_recovery_code(random_bytes(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES))


def recovery_hash(code: str) -> str:
    """Return the stored form of a recovery code. Case, spaces and hyphens do not matter."""
    letters = "".join(character for character in code.casefold() if character.isalnum())
    return hash_secret(letters).hex()


def without_recovery_code(hashes: Sequence[str], code: str) -> tuple[str, ...] | None:
    """Return the other hashes if the code is one of those that are left; else None."""
    entered = recovery_hash(code)
    left = tuple(stored for stored in hashes if not hmac.compare_digest(stored, entered))
    return left if len(left) < len(hashes) else None


def _recovery_code(random: bytes) -> str:
    text = b32encode(random).decode().casefold()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))

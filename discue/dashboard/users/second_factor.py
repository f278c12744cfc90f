"""The second factor of users: codes of authenticator apps (TOTP, RFC 6238), and recovery codes for a lost device."""

import hmac
from base64 import b32decode, b32encode
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from discue.control import encryption
from discue.control.context import ControlContext, record, require_found
from discue.dashboard.users import second_factor_table, session_table
from discue.dashboard.users.second_factor_table import SecondFactor
from discue.dashboard.users.users import require_rank
from discue.domain.api_key import hash_secret
from discue.domain.errors import LockedOut, Unprocessable, invalid
from discue.domain.ids import RandomBytes
from discue.domain.lockout import MAX_REFUSAL_MS, code_refusal_ms, remaining_ms
from discue.domain.model import User
from discue.domain.scopes import Principal
from discue.store import users
from discue.store.engine import Transaction

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
    return random_bytes(_SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
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
    texts = [b32encode(random_bytes(_RECOVERY_BYTES)).decode().casefold() for _ in range(RECOVERY_CODES)]
    return tuple("-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP)) for text in texts)


def recovery_hash(code: str) -> str:
    """Return the stored form of a recovery code. Case, spaces and hyphens do not matter."""
    letters = "".join(character for character in code.casefold() if character.isalnum())
    return hash_secret(letters).hex()


def without_recovery_code(hashes: Sequence[str], code: str) -> tuple[str, ...] | None:
    """Return the other hashes if the code is one of those that are left; else None."""
    entered = recovery_hash(code)
    left = tuple(stored for stored in hashes if not hmac.compare_digest(stored, entered))
    return left if len(left) < len(hashes) else None


_APP_NAME: Final = "discue"


class Enrolment(msgspec.Struct, frozen=True):
    """A secret for an authenticator app. It takes effect with `confirm`."""

    secret: str
    uri: str
    """For a QR code."""

    def __repr__(self) -> str:
        return "Enrolment()"


async def begin(control: ControlContext, user: User) -> Enrolment:
    """Make a secret for the app of a user. Raises Unprocessable if the user has a second factor."""
    secret = new_secret(control.random_bytes)
    # Without an encryption key it is stored as it is. Random bytes could look like encrypted content.
    content = b32encode(secret)

    async def work(tx: Transaction) -> None:
        stored = await second_factor_table.get(tx, user.organization, user.id)
        if stored is not None and stored.confirmed_at:
            raise _exists()
        row = (user.organization, user.id)
        await second_factor_table.put(
            tx, SecondFactor(*row, await encryption.sealed_content(tx, control, row, content))
        )

    await control.store.write_exclusively(work)
    return _enrolment(secret, user)


def enrolment_of(user: User, secret: str) -> Enrolment | None:
    """Return the enrolment with a secret that `begin` has made, as text; None for other text.

    The form of the code sends the secret back, so that a session cannot read the stored one without the password.
    """
    read = secret_of(secret)
    return None if read is None else _enrolment(read, user)


def _enrolment(secret: bytes, user: User) -> Enrolment:
    return Enrolment(secret_text(secret), uri_of(secret, _APP_NAME, user.email))


async def confirm(control: ControlContext, principal: Principal, user: User, code: str) -> tuple[str, ...]:
    """Require the second factor from now on, and return the recovery codes, which are not shown again.

    Raises Unprocessable for a wrong code, or if the user has a second factor, and NotFound unless `begin` was called.
    """
    codes = new_recovery_codes(control.random_bytes)
    now, occurrence = control.clock.now(), control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = require_found(await second_factor_table.get(tx, user.organization, user.id))
        if stored.confirmed_at:
            raise _exists()
        step = step_of(_secret_of(control, stored), code, now, stored.last_step)
        if step is None:
            raise invalid("/code", "is not the code that the app shows now. Check the clock of the device")
        hashes = tuple(recovery_hash(each) for each in codes)
        await second_factor_table.put(
            tx, msgspec.structs.replace(stored, confirmed_at=now, last_step=step, recovery_codes=hashes)
        )
        await record(tx, occurrence, "second_factor_added", user)

    await control.store.write_exclusively(work)
    return codes


async def check(control: ControlContext, user: User, code: str, *, without: bool = True) -> bool:
    """Return whether a code of the app, or a recovery code, is right; `without` if there is no second factor.

    The code is used up. Wrong codes count until one is right. Raises LockedOut for a while after too many of them,
    whatever the code.
    """
    now, occurrence = control.clock.now(), control.occurrence(None)

    async def work(tx: Transaction) -> bool:
        stored = await second_factor_table.get(tx, user.organization, user.id)
        if stored is None or not stored.confirmed_at:
            return without
        left_ms = remaining_ms(stored.refused_until, now, MAX_REFUSAL_MS)
        if left_ms:
            seconds = -(-left_ms // 1_000)
            detail = f"Too many codes were wrong. Codes are accepted again in {seconds} seconds."
            raise LockedOut(detail, retry_after_seconds=seconds)
        step = step_of(_secret_of(control, stored), code, now, stored.last_step)
        if step is not None:
            return await second_factor_table.use_step(tx, stored, step)
        left = without_recovery_code(stored.recovery_codes, code)
        if left is not None:
            return await second_factor_table.use_recovery_code(tx, stored, left)
        refusal_ms = code_refusal_ms(stored.failed_codes + 1)
        await second_factor_table.count_failure(tx, stored, now + refusal_ms if refusal_ms else 0)
        if refusal_ms:
            await session_table.delete_unfinished(tx, user.organization, user.id)
            await record(tx, occurrence, "lockout", user)
        return False

    return await control.store.write_exclusively(work)


async def users_with(control: ControlContext, among: Sequence[User]) -> set[int]:
    """Return those of some users of one organization, by row ids, who have a second factor."""
    if not among:
        return set()
    organization, ids = among[0].organization, [user.id for user in among]
    return await control.store.read(lambda tx: second_factor_table.users_with(tx, organization, ids))


async def is_required(tx: Transaction, user: User) -> bool:
    """Return whether the user must enter a code after the password."""
    stored = await second_factor_table.get(tx, user.organization, user.id)
    return stored is not None and stored.confirmed_at > 0


async def remove(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Remove the second factor of a user. Users need no scope for their own.

    Raises Forbidden without the scope for others, and NotFound.
    """
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        if principal.role is None or public_id != principal.key_public_id:
            principal.require("users", "write", public_id)
        user = require_found(await users.get(tx, principal.organization, public_id))
        require_rank(principal, user.role)
        if await second_factor_table.delete(tx, user.organization, user.id):
            await record(tx, occurrence, "second_factor_deleted", user)

    await control.store.write_exclusively(work)


def _exists() -> Unprocessable:
    return invalid("/second_factor", "exists. Remove it before you set up another one", code="conflicting_fields")


def _secret_of(control: ControlContext, stored: SecondFactor) -> bytes:
    return b32decode(encryption.opened_content(control, (stored.organization, stored.id), stored.secrets))

"""The cookie of a browser in which a user has signed in with a password, so that strangers cannot deny them the next
sign-in.

It grants nothing but that: the password is asked for as before. Its code is an HMAC with the hash of the password as
the key, so a new password voids it, and nothing is stored. The salt alone has 128 bits that no one outside knows, so
the code is of no use for guessing the password. The idea is from OWASP, "Slow Down Online Guessing Attacks with Device
Cookies".
"""

import hashlib
import hmac
import re
from typing import Final

from discue.domain.ids import RandomText

DEVICE_CHARACTERS: Final = 22
"""The length of a device id. Its 128 random bits make it unique."""
_FORM: Final = re.compile(rf"([0-9A-Za-z]{{{DEVICE_CHARACTERS}}})([0-9a-f]{{64}})")
_PURPOSE: Final = b"discue device "
_NO_HASH: Final = ""


def device_cookie(device: str, password_hash: str) -> str:
    """Return the cookie of a device for the user with this password hash."""
    return device + _code(password_hash, device)


def new_device_cookie(password_hash: str, random_text: RandomText) -> str:
    return device_cookie(random_text.take(DEVICE_CHARACTERS), password_hash)


def is_device_cookie(cookie: str) -> bool:
    """Return whether a text has the form of a device cookie."""
    return _FORM.fullmatch(cookie) is not None


def device_of(cookie: str, password_hash: str | None) -> str | None:
    """Return the id of the device if the cookie was made for this password hash."""
    found = _FORM.fullmatch(cookie)
    if found is None:
        return None
    # Also computed without a hash: the response time must not reveal whether there is one.
    is_right = hmac.compare_digest(found[2], _code(password_hash or _NO_HASH, found[1]))
    return found[1] if is_right and password_hash is not None else None


def _code(password_hash: str, device: str) -> str:
    return hmac.new(password_hash.encode(), _PURPOSE + device.encode(), hashlib.sha256).hexdigest()

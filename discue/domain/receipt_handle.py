"""What a consumer names a message by that was handed out to it: which one, and by which lease."""

import re
from typing import Final, NamedTuple

from discue.domain.ids import ALPHABET, decode, encode

_HALF: Final = 11
"""Base 62 has so many characters for 63 bits."""
PATTERN: Final = f"^[0-9A-Za-z]{{{2 * _HALF}}}$"
_FORM: Final = re.compile(f"[{ALPHABET}]{{{2 * _HALF}}}")


class ReceiptHandle(NamedTuple):
    """A message's seq, and the token of its lease: no two leases have the same."""

    seq: int
    token: int

    def __str__(self) -> str:
        return encode(self.seq, _HALF) + encode(self.token, _HALF)


def parse_receipt_handle(text: str) -> ReceiptHandle | None:
    """None for a text that is none."""
    if _FORM.fullmatch(text) is None:
        return None
    seq, token = decode(text[:_HALF]), decode(text[_HALF:])
    return None if max(seq, token) >= 1 << 63 else ReceiptHandle(seq, token)

"""Verification of Ed25519 signatures (RFC 8032), for `v1a` signatures of webhooks.

Uses the package `cryptography` if it is installed, which takes 0.2 ms a signature; the Python code here takes 3 ms.
It only verifies: it handles no secrets, so its time need not be constant.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha512
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Point = tuple[int, int, int, int]
    """Extended coordinates X, Y, Z, T of the point (X/Z, Y/Z), with T = XY/Z."""

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_ZERO: Point = (0, 1, 1, 0)


def verifier(key: bytes) -> Callable[[bytes, bytes], bool]:
    """Return a function that takes a signature and a message, and returns whether the signature is valid.

    Raises ValueError if `key` is no public key.
    """
    point = _decode(key)
    try:
        # Optional, and slow to import: only receivers of such signatures need it.
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        return partial(_verify, key, point)
    public = Ed25519PublicKey.from_public_bytes(key)

    def is_valid(signature: bytes, message: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return is_valid


def is_valid_in_python(key: bytes, signature: bytes, message: bytes) -> bool:
    """Verify a signature without any package. Raises ValueError if `key` is no public key."""
    return _verify(key, _decode(key), signature, message)


def _verify(key: bytes, point: Point, signature: bytes, message: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    committed, scalar = signature[:32], int.from_bytes(signature[32:], "little")
    # Otherwise the same signature would have a second form.
    if scalar >= _ORDER:
        return False
    challenge = int.from_bytes(sha512(committed + key + message).digest(), "little") % _ORDER
    x, y, z, t = point
    return _encode(_sum_of_multiples(scalar, _BASE, challenge, (-x, y, z, -t))) == committed


def _sum_of_multiples(first: int, one: Point, second: int, other: Point) -> Point:
    """Return first * one + second * other, with the doublings of both in common."""
    choices = (_ZERO, one, other, _add(one, other))
    total = _ZERO
    for bit in range(max(first.bit_length(), second.bit_length()) - 1, -1, -1):
        total = _add(total, total)
        choice = (first >> bit & 1) | (second >> bit & 1) << 1
        if choice:
            total = _add(total, choices[choice])
    return total


def _add(one: Point, other: Point) -> Point:
    """Return the sum. The formulas hold for equal points, too."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    return (y * inverse % _P | (x * inverse % _P & 1) << 255).to_bytes(KEY_BYTES, "little")


def _decode(text: bytes) -> Point:
    """Return the point of a public key. Raises ValueError."""
    number = int.from_bytes(text, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if len(text) != KEY_BYTES or y >= _P:
        raise ValueError("An Ed25519 public key has 32 bytes and names a point of the curve.")
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - x_squared) % _P or (sign and not x):
        raise ValueError("An Ed25519 public key has 32 bytes and names a point of the curve.")
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


_BASE = _decode((4 * pow(5, -1, _P) % _P).to_bytes(KEY_BYTES, "little"))

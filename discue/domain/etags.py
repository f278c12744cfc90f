"""Entity tags (RFC 9110, 8.8.3): the ETag of a response, and the lists in If-Match and If-None-Match.

A tag has two parts, `"<version>.<content>"`. The first identifies the version of what clients can change, the second
the whole response body, counts included.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

_UNVERSIONED: Final = frozenset(
    {
        *("body", "last_run", "last_used_at", "next_run_at", "refused", "refused_at", "secret_hash", "secrets"),
        "verification",
    }
)
"""Fields of stored resources that no request changes: usage, secrets, and immutable content."""

# 96 bits: two contents of one resource never have the same hash by chance.
_BYTES: Final = 12
_ELEMENT: Final = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|\Z)')

# Sorted: equal dicts must have equal versions, in whatever order a client sent their keys.
_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(order="sorted").encode
_hash = hashlib.blake2b


class EntityTag(NamedTuple):
    """An entity tag from a request header."""

    opaque: str
    """The tag without quotes."""
    is_weak: bool = False

    @property
    def version(self) -> str:
        return self.opaque.partition(".")[0]


class EntityTags(msgspec.Struct, frozen=True):
    """The value of an If-Match or If-None-Match header."""

    tags: tuple[EntityTag, ...] = ()
    is_any: bool = False
    """Whether the value is `*`."""

    def matches(self, etag: str) -> bool:
        """Return whether the list contains the ETag of a response, by weak comparison."""
        return self.is_any or any(f'"{tag.opaque}"' == etag for tag in self.tags)

    def matches_version(self, version: str) -> bool:
        """Return whether the list contains a tag of this version, by strong comparison: weak tags never match."""
        return self.is_any or any(tag.version == version and not tag.is_weak for tag in self.tags)


ANY: Final = EntityTags(is_any=True)


def parse_etags(text: str) -> EntityTags:
    """Parse a header value. Raises ValueError for an invalid or empty list."""
    if text.strip(" \t") == "*":
        return ANY
    tags = []
    position = 0
    while position < len(text):
        element = _ELEMENT.match(text, position)
        if element is None:
            raise ValueError("not a list of entity tags")
        weak, opaque = element.groups()
        if opaque is not None:
            tags.append(EntityTag(opaque, weak is not None))
        position = element.end()
    if not tags:
        raise ValueError("an empty list of entity tags")
    return EntityTags(tuple(tags))


def etag_of(version: str, content: bytes) -> str:
    """Return the ETag of a response with this body, quotes included."""
    return f'"{version}.{_short_hash(content)}"'


def version_of(stored: msgspec.Struct) -> str:
    """Return the version of a stored resource. It changes with every field that a request can change."""
    return _short_hash(_encode(_versioned_fields(type(stored))(stored)))


@cache
def _versioned_fields(kind: type[msgspec.Struct]) -> Callable[[Any], Any]:
    return attrgetter(*(name for name in kind.__struct_fields__ if name not in _UNVERSIONED))


def _short_hash(content: bytes) -> str:
    return urlsafe_b64encode(_hash(content, digest_size=_BYTES).digest()).decode()

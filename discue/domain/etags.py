"""Entity tags (RFC 9110, 8.8.3): what a response to a `GET` is called, and the lists of them that requests carry.

A tag has two parts, `"<version>.<content>"`: the first is that of what can be changed, the second that of the whole
body, with the counts in it.
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
    {"body", "last_run", "last_used_at", "next_run_at", "secret_hash", "secrets", "verification"}
)
"""Fields of stored things that no request changes: what is counted, what is not shown, what never changes."""

_BYTES: Final = 12
_ELEMENT: Final = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|\Z)')

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder(order="sorted").encode
_hash = hashlib.blake2b


class EntityTag(NamedTuple):
    """One tag as it was sent, without its quotes."""

    opaque: str
    is_weak: bool = False

    @property
    def version(self) -> str:
        return self.opaque.partition(".")[0]


class EntityTags(msgspec.Struct, frozen=True):
    """The value of an If-Match or If-None-Match header: a list of tags, or `*` (`is_any`)."""

    tags: tuple[EntityTag, ...] = ()
    is_any: bool = False

    def names(self, etag: str) -> bool:
        """Whether the tag of a response is among them, by the weak comparison. `etag` is as the response has it."""
        return self.is_any or any(f'"{tag.opaque}"' == etag for tag in self.tags)

    def matches_version(self, version: str) -> bool:
        """Whether one of them is of this version, by the strong comparison: weak ones are of none."""
        return self.is_any or any(tag.version == version and not tag.is_weak for tag in self.tags)


ANY: Final = EntityTags(is_any=True)


def parse_etags(text: str) -> EntityTags:
    """Raises ValueError for what is no list of entity tags, and for an empty one."""
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
    """With its quotes."""
    return f'"{version}.{_short(content)}"'


def version_of(stored: msgspec.Struct) -> str:
    """The version of a stored thing: another one when anything that requests can change of it is another."""
    return _short(_encode(_versioned(type(stored))(stored)))


@cache
def _versioned(kind: type[msgspec.Struct]) -> Callable[[Any], Any]:
    return attrgetter(*(name for name in kind.__struct_fields__ if name not in _UNVERSIONED))


def _short(content: bytes) -> str:
    return urlsafe_b64encode(_hash(content, digest_size=_BYTES).digest()).decode()

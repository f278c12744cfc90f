"""What all answers are made of."""

from typing import Self

import msgspec

from discue.api.links import Links

_RENAMED = {"links": "_links"}


class Answer(msgspec.Struct, rename=_RENAMED, kw_only=True, frozen=True):
    """Every body of a 200 has links."""

    links: Links

    def without_secrets(self) -> Self:
        """What is kept of a response, to answer repetitions with."""
        return self


class Deleted(Answer, kw_only=True, frozen=True):
    """Of every `DELETE`."""


class Shown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What every resource has."""

    id: str
    alias: str
    name: str
    created_at: int
    updated_at: int


class Reference(msgspec.Struct, frozen=True):
    id: str
    alias: str
    name: str

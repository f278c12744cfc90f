"""What a thing is called after a request that may name it by `alias`, by `name`, or not at all."""

from collections.abc import Callable
from typing import Protocol

from discue.domain import aliases


class AliasFields(Protocol):
    """The two synonyms as a request gave them."""

    @property
    def alias(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...


def new_alias(fields: AliasFields, default: str, check: Callable[[str], None] = aliases.check_alias) -> str:
    """Raises Unprocessable for an unfit alias, and for two different ones."""
    alias = aliases.reconcile(fields.alias, fields.name, None)
    if alias is None:
        return default
    check(alias)
    return alias


def changed_alias(fields: AliasFields, stored: str, check: Callable[[str], None] = aliases.check_alias) -> str:
    """Raises Unprocessable for an unfit alias, and for two different ones that are both new."""
    alias = aliases.reconcile(fields.alias, fields.name, stored)
    if alias is None or alias == stored:
        return stored
    check(alias)
    return alias

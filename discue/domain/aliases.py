"""The names that clients give: aliases, their synonym `name`, the reverse domain names of organizations."""

import re
from collections.abc import Callable
from typing import Protocol

from discue.domain.errors import Fault, Unprocessable

_ALIAS = re.compile(r"[A-Za-z0-9._/-]{4,64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ORGANIZATION_ALIAS = re.compile(rf"{_LABEL}(?:\.{_LABEL})+(?:/[A-Za-z0-9._-]+)?")
_ORGANIZATION_LENGTHS = range(4, 254)


def check_alias(alias: str, pointer: str = "/alias") -> None:
    """Raise Unprocessable unless it is 4 to 64 characters of `[A-Za-z0-9._/-]`."""
    if _ALIAS.fullmatch(alias) is None:
        raise _unacceptable(pointer, "must be 4 to 64 characters of A-Z, a-z, 0-9, dot, underscore, slash and hyphen")


def check_organization_alias(alias: str, pointer: str = "/alias") -> None:
    """Raise Unprocessable unless it is a reverse domain name: `com.example.dev`, or `example.com/dev`.

    4 to 253 characters: two or more labels by the rules of DNS (RFC 1123), then at most one segment after
    a slash.
    """
    if len(alias) not in _ORGANIZATION_LENGTHS or _ORGANIZATION_ALIAS.fullmatch(alias) is None:
        raise _unacceptable(pointer, "must be a reverse domain name such as com.example.dev, 4 to 253 characters")


def reconcile(alias: str | None, name: str | None, stored: str | None) -> str | None:
    """What the alias is to be, when a request gives `alias`, `name`, both or (None) neither of them.

    `stored` is the alias as it is, None in a POST: it stays when neither is given. Of two values the one that
    differs from `stored` wins; Unprocessable if both do, and differ.
    """
    given = {value for value in (alias, name) if value is not None}
    changes = given - {stored}
    if len(changes) > 1:
        raise Unprocessable(
            "alias and name are synonyms, and were given different values.",
            faults=(Fault("/alias", "differs from name"), Fault("/name", "differs from alias")),
        )
    return changes.pop() if changes else stored


def _unacceptable(pointer: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The name at {pointer} {rule}.", faults=(Fault(pointer, rule),))


class AliasFields(Protocol):
    """The two synonyms as a request gave them."""

    @property
    def alias(self) -> str | None: ...

    @property
    def name(self) -> str | None: ...


def new_alias(fields: AliasFields, default: str, check: Callable[[str], None] = check_alias) -> str:
    """Raises Unprocessable for an unfit alias, and for two different ones."""
    alias = reconcile(fields.alias, fields.name, None)
    if alias is None:
        return default
    check(alias)
    return alias


def changed_alias(fields: AliasFields, stored: str, check: Callable[[str], None] = check_alias) -> str:
    """Raises Unprocessable for an unfit alias, and for two different ones that are both new."""
    alias = reconcile(fields.alias, fields.name, stored)
    if alias is None or alias == stored:
        return stored
    check(alias)
    return alias

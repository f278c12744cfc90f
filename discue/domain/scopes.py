"""Authorization: the scopes of API keys, which scopes may be granted, and the principal of a request."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from discue.domain.errors import BadRequest, Fault, Forbidden, Unprocessable, escaped, invalid, malformed, sentence_of
from discue.domain.model import Role
from discue.domain.suggestions import alternatives

RESOURCES = (
    "api_clients",
    "api_keys",
    "channels",
    "domains",
    "events",
    "listeners",
    "messages",
    "portal",
    "queues",
    "schemas",
    "stats",
    "subscriptions",
    "topics",
    "users",
)

PROTECTED = frozenset({"api_clients", "api_keys", "portal", "subscriptions", "users"})
"""Scopes that cannot be granted through the API. Only the command line and an organization's first key have them."""

TARGETS_LIMIT = 1_000
"""Maximum targets of one resource."""

Access = Literal["read", "write"]

_ALL = "*"
_EVERYTHING = (_ALL,)
_NOTHING: frozenset[str] = frozenset()
_MAX_FAULTS = 100
_TARGET = re.compile("[0-9A-Za-z_-]{1,64}")


class Scope(msgspec.Struct, frozen=True):
    """Access to a resource."""

    access: Access
    targets: tuple[str, ...] = ()
    """Ids, as the client sent them, known or not. `()` and every list with `*` mean all."""

    @property
    def on_all(self) -> bool:
        return not self.targets or _ALL in self.targets

    def covers(self, other: "Scope") -> bool:
        """Return whether this scope allows everything that `other` allows."""
        if other.access == "write" and self.access != "write":
            return False
        return self.on_all or (not other.on_all and set(self.targets).issuperset(other.targets))


Scopes = Mapping[str, Scope]


def parse_scopes(value: object, pointer: str = "/scopes") -> dict[str, Scope]:
    """Parse scopes from decoded JSON: an object, or the list that older clients send.

    Raises BadRequest for wrong types and missing or unknown fields, and Unprocessable for null, unknown or repeated
    resources, and invalid values. Both list every invalid place (at most 100).
    """
    if value is None:
        raise invalid(pointer, "must be an object, not null")
    faults = _Faults()
    if isinstance(value, dict):
        scopes = _parse_map(value, pointer, faults)
    elif isinstance(value, list):
        scopes = _parse_list(value, pointer, faults)
    else:
        raise malformed(pointer, "must be an object or a list")
    faults.raise_any()
    return scopes


def render_scopes(scopes: Scopes) -> dict[str, dict[str, object]]:
    """Return the object that responses contain. `parse_scopes` accepts it."""
    return {resource: {"access": scope.access, "targets": list(scope.targets)} for resource, scope in scopes.items()}


def check_grant(requested: Scopes, granter: Scopes, pointer: str = "/scopes") -> None:
    """Raise Unprocessable for a protected scope, and Forbidden for more than the granter has."""
    protected = [resource for resource in requested if resource in PROTECTED]
    if protected:
        raise Unprocessable(
            f'The protected scope "{protected[0]}" cannot be granted through the API: '
            "the operator grants it with `discue keys create --scope`.",
            code="scope_protected",
            faults=tuple(Fault(f"{pointer}/{resource}", "is protected") for resource in protected),
        )
    # An empty list of targets means all: `covers` treats it so, or a restricted key could grant everything.
    excessive = [name for name, scope in requested.items() if name not in granter or not granter[name].covers(scope)]
    if excessive:
        raise Forbidden(
            f'An API key cannot grant more access to "{excessive[0]}" than it has.',
            code="scope_exceeded",
            faults=tuple(Fault(f"{pointer}/{resource}", "is more than the key has") for resource in excessive),
        )


def default_grant(granter: Scopes) -> dict[str, Scope]:
    """Return the scopes of a key that is created without any: those of its creator, except protected ones."""
    return {resource: scope for resource, scope in granter.items() if resource not in PROTECTED}


PRESETS: Final = ("publish", "consume", "read-only", "everything")
"""Common scopes: to publish messages, to pull and settle them, to read everything, or all that are not protected."""


def preset_scopes(preset: str, granter: Scopes) -> dict[str, Scope]:
    """Return the scopes of a preset. `read-only` and `everything` grant at most the scopes of the granter."""
    own = default_grant(granter)
    match preset:
        case "publish":
            return {"messages": Scope("write")}
        case "consume":
            return {"listeners": Scope("write"), "messages": Scope("read")}
        case "read-only":
            return {resource: Scope("read", scope.targets) for resource, scope in own.items()}
        case _:
            return own


def all_scopes() -> dict[str, Scope]:
    """Return every scope, including protected ones: those of an organization's first key."""
    return {resource: Scope("write", _EVERYTHING) for resource in RESOURCES}


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: an organization, the API key or user that authenticated it, and their scopes."""

    organization: int
    organization_public_id: str
    key: int
    """Row id of the API key or the user."""
    key_public_id: str
    """Public id of the API key or the user; empty for a session that was opened on the command line."""
    scopes: Scopes = field(hash=False)
    is_operator: bool
    """Whether the organization is the operator's."""
    expires_at: int = 0
    """When the key expires, in milliseconds since the epoch; 0: never."""
    role: Role | None = None
    """Role of a user. None: the principal is an API key, or a customer in the portal."""
    customer: str | None = None
    """The customer whose session of the portal it is: only listeners of this customer exist for it. None: all do."""
    _granted: dict[str, dict[str, frozenset[str] | None]] = field(init=False, repr=False, compare=False)
    """Targets by access and resource; None: all."""

    def __post_init__(self) -> None:
        # Precomputed, because `may` runs for every request.
        readable = {name: None if scope.on_all else frozenset(scope.targets) for name, scope in self.scopes.items()}
        writable = {name: targets for name, targets in readable.items() if self.scopes[name].access == "write"}
        object.__setattr__(self, "_granted", {"read": readable, "write": writable})

    def may(self, resource: str, access: Access, *ids: str) -> bool:
        """Return whether the key has access to all of the resource, or to one of `ids`: its own and its parents'."""
        targets = self._granted[access].get(resource, _NOTHING)
        return targets is None or not targets.isdisjoint(ids)

    def allows_all(self, resource: str, access: Access) -> bool:
        """Return whether the scope is not restricted to targets, which creating a resource requires."""
        return self._granted[access].get(resource, _NOTHING) is None

    def targets_of(self, resource: str, access: Access) -> frozenset[str] | None:
        """Return the ids that a list is restricted to; None for all. Raises Forbidden without the scope."""
        targets = self._granted[access].get(resource, _NOTHING)
        if targets is not None and not targets:
            raise self._missing_scope(resource, access)
        return targets

    def require(self, resource: str, access: Access, *ids: str) -> None:
        """Raise Forbidden, naming the scope, unless `may`."""
        if not self.may(resource, access, *ids):
            raise self._missing_scope(resource, access)

    def require_customer(self, owner: str) -> None:
        """Raise Forbidden in a session of the portal, unless its customer is the owner of the queue."""
        if self.customer is not None and owner != self.customer:
            raise Forbidden("A session of the portal may do this only in queues of its customer.")

    def _missing_scope(self, resource: str, access: Access) -> Forbidden:
        if self.customer is not None:
            return Forbidden("The session of the portal does not include this.")
        if self.role is not None:
            return Forbidden(f'The role {self.role} does not include the scope "{resource}" with {access} access.')
        detail = f'The API key needs the scope "{resource}" with {access} access.'
        if resource in PROTECTED:
            detail += f" It is protected: `discue keys create --scope {resource}` on the server creates a key with it."
        return Forbidden(detail)


class _Faults:
    """Faults of a request: malformed ones (status 400) take precedence over invalid values (422)."""

    def __init__(self) -> None:
        self._malformed: list[Fault] = []
        self._invalid: list[Fault] = []
        self.code = "wrong_type"
        """The code of malformed ones."""

    def malformed(self, pointer: str, detail: str) -> None:
        self._malformed.append(Fault(pointer, detail))

    def invalid(self, pointer: str, detail: str) -> None:
        self._invalid.append(Fault(pointer, detail))

    def raise_any(self) -> None:
        # Bounded: a request may contain thousands of invalid places.
        faults = tuple((self._malformed or self._invalid)[:_MAX_FAULTS])
        if self._malformed:
            raise BadRequest(sentence_of(*faults[0]), code=self.code, faults=faults)
        if faults:
            raise Unprocessable(sentence_of(*faults[0]), code="invalid_value", faults=faults)


def _unknown_resource(name: str) -> str:
    return "is not a resource" + alternatives(name, RESOURCES)


def _parse_map(value: dict[str, object], pointer: str, faults: _Faults) -> dict[str, Scope]:
    scopes = {}
    for resource, entry in value.items():
        entry_pointer = f"{pointer}/{escaped(resource)}"
        if resource not in RESOURCES:
            faults.invalid(entry_pointer, _unknown_resource(resource))
        elif not isinstance(entry, dict):
            faults.malformed(entry_pointer, "must be an object")
        else:
            scopes[resource] = _parse_scope(entry, entry_pointer, ("access", "targets"), faults)
    return scopes


def _parse_list(value: Sequence[object], pointer: str, faults: _Faults) -> dict[str, Scope]:
    scopes: dict[str, Scope] = {}
    for index, entry in enumerate(value):
        entry_pointer = f"{pointer}/{index}"
        if not isinstance(entry, dict):
            faults.malformed(entry_pointer, "must be an object")
            continue
        resource = entry.get("resource")
        scope = _parse_scope(entry, entry_pointer, ("access", "resource", "targets"), faults)
        if not isinstance(resource, str):
            faults.malformed(f"{entry_pointer}/resource", "must be a string")
        elif resource not in RESOURCES:
            faults.invalid(f"{entry_pointer}/resource", _unknown_resource(resource))
        elif resource in scopes:
            faults.invalid(f"{entry_pointer}/resource", "is listed twice")
        else:
            scopes[resource] = scope
    return scopes


def _parse_scope(entry: dict[str, object], pointer: str, known: tuple[str, ...], faults: _Faults) -> Scope:
    for name in entry:
        if name not in known:
            faults.code = "unknown_field"
            faults.malformed(f"{pointer}/{escaped(name)}", "is not a known field" + alternatives(name, known))
    access = _parse_access(entry.get("access", "write"), f"{pointer}/access", faults)
    return Scope(access, _parse_targets(entry.get("targets", []), f"{pointer}/targets", faults))


def _parse_access(value: object, pointer: str, faults: _Faults) -> Access:
    if not isinstance(value, str):
        faults.malformed(pointer, "must be a string")
    elif value == "read":
        return "read"
    elif value != "write":
        faults.invalid(pointer, "must be read or write")
    return "write"


def _parse_targets(value: object, pointer: str, faults: _Faults) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list):
        faults.malformed(pointer, "must be a list of ids")
    elif len(value) > TARGETS_LIMIT:
        faults.invalid(pointer, f"must have at most {TARGETS_LIMIT} ids")
    elif value != ["*"]:
        for index, target in enumerate(value):
            if not isinstance(target, str):
                faults.malformed(f"{pointer}/{index}", "must be a string")
            elif target != _ALL and _TARGET.fullmatch(target) is None:
                faults.invalid(f"{pointer}/{index}", "is not an id: 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
        return tuple(value)
    return _EVERYTHING

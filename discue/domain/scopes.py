"""Who may do what: scopes as clients write them, what may be granted, and who a request acts as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from discue.domain.errors import BadRequest, Fault, Forbidden, Unprocessable
from discue.domain.ids import is_public_id
from discue.domain.json_pointer import escaped

RESOURCES = (
    "api_clients",
    "api_keys",
    "channels",
    "domains",
    "events",
    "listeners",
    "messages",
    "queues",
    "schemas",
    "stats",
    "subscriptions",
    "topics",
    "users",
)

PROTECTED = frozenset({"api_clients", "api_keys", "subscriptions", "users"})
"""What the API never grants: only the command line and an organization's first key carry these."""

TARGETS_LIMIT = 1_000
"""At most so many targets a resource."""

Access = Literal["read", "write"]

_EVERYTHING = ("*",)
_NOTHING: frozenset[str] = frozenset()
_FAULTS_LIMIT = 100
_SCHEMA_ID_LENGTH = 64
_HEX_DIGITS = frozenset("0123456789abcdef")


class Scope(msgspec.Struct, frozen=True):
    """Access to a resource. `targets` is as it was sent: `()` and `("*",)` both mean all."""

    access: Access
    targets: tuple[str, ...] = ()

    @property
    def on_all(self) -> bool:
        return not self.targets or self.targets == _EVERYTHING

    def covers(self, other: "Scope") -> bool:
        """Whether whoever has this scope has everything that `other` allows."""
        if other.access == "write" and self.access != "write":
            return False
        return self.on_all or (not other.on_all and set(self.targets).issuperset(other.targets))


Scopes = Mapping[str, Scope]


def parse_scopes(value: object, pointer: str = "/scopes") -> dict[str, Scope]:
    """Read scopes from decoded JSON, as a map or as the list of older clients.

    Raises BadRequest for wrong types, missing and unknown fields, Unprocessable for null, unknown or
    doubled resources, and values out of their range; either names every place (100 at most).
    """
    if value is None:
        raise Unprocessable("Scopes cannot be null.", faults=(Fault(pointer, "must be an object, not null"),))
    faults = _Faults()
    if isinstance(value, dict):
        scopes = _read_map(value, pointer, faults)
    elif isinstance(value, list):
        scopes = _read_list(value, pointer, faults)
    else:
        raise BadRequest("Scopes are an object.", faults=(Fault(pointer, "must be an object or a list"),))
    faults.raise_any()
    return scopes


def render_scopes(scopes: Scopes) -> dict[str, dict[str, object]]:
    """The map that responses carry, and that `parse_scopes` reads back."""
    return {resource: {"access": scope.access, "targets": list(scope.targets)} for resource, scope in scopes.items()}


def check_grant(requested: Scopes, granter: Scopes, pointer: str = "/scopes") -> None:
    """Raise Unprocessable for a protected scope, Forbidden for more than the granter has."""
    protected = [resource for resource in requested if resource in PROTECTED]
    if protected:
        raise Unprocessable(
            f"The protected scope {protected[0]} cannot be granted through the API.",
            faults=tuple(Fault(f"{pointer}/{resource}", "is protected") for resource in protected),
        )
    excessive = [resource for resource, scope in requested.items() if not _holds(granter, resource, scope)]
    if excessive:
        raise Forbidden(
            f"An API key cannot grant more than it has; this one has less of {excessive[0]}.",
            faults=tuple(Fault(f"{pointer}/{resource}", "is more than the key has") for resource in excessive),
        )


def default_grant(granter: Scopes) -> dict[str, Scope]:
    """What a key gets when no scopes are named: all that its creator has, the protected scopes excepted."""
    return {resource: scope for resource, scope in granter.items() if resource not in PROTECTED}


def all_scopes() -> dict[str, Scope]:
    """Everything, the protected scopes too: an organization's first key."""
    return {resource: Scope("write", _EVERYTHING) for resource in RESOURCES}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: an organization, the key that proves it, and what that key may do."""

    organization: int
    organization_public_id: str
    key: int
    key_public_id: str
    scopes: Scopes = field(hash=False)
    is_operator: bool
    _granted: dict[str, dict[str, frozenset[str] | None]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        everyone = {name: None if scope.on_all else frozenset(scope.targets) for name, scope in self.scopes.items()}
        writers = {name: targets for name, targets in everyone.items() if self.scopes[name].access == "write"}
        object.__setattr__(self, "_granted", {"read": everyone, "write": writers})

    def may(self, resource: str, access: Access, *ids: str) -> bool:
        """Whether the key reaches all of the resource, or one of `ids`: its own and its parents'."""
        targets = self._granted[access].get(resource, _NOTHING)
        return targets is None or not targets.isdisjoint(ids)

    def allows_all(self, resource: str, access: Access) -> bool:
        """Whether the key is not confined to some targets: what creating needs."""
        return self._granted[access].get(resource, _NOTHING) is None

    def targets_of(self, resource: str, access: Access) -> frozenset[str] | None:
        """The ids that a list is confined to; None for all. Raises Forbidden without the scope."""
        targets = self._granted[access].get(resource, _NOTHING)
        if targets is not None and not targets:
            raise _missing(resource, access)
        return targets

    def require(self, resource: str, access: Access, *ids: str) -> None:
        """Raise Forbidden, naming the scope, unless `may` says yes."""
        if not self.may(resource, access, *ids):
            raise _missing(resource, access)


def _missing(resource: str, access: Access) -> Forbidden:
    return Forbidden(f"The API key needs the scope {resource} with {access} access to this.")


def _holds(granter: Scopes, resource: str, scope: Scope) -> bool:
    held = granter.get(resource)
    return held is not None and held.covers(scope)


class _Faults:
    """What is wrong with a request, in the two grades that have different statuses."""

    def __init__(self) -> None:
        self._malformed: list[Fault] = []
        self._unacceptable: list[Fault] = []

    def malformed(self, pointer: str, detail: str) -> None:
        if len(self._malformed) < _FAULTS_LIMIT:
            self._malformed.append(Fault(pointer, detail))

    def unacceptable(self, pointer: str, detail: str) -> None:
        if len(self._unacceptable) < _FAULTS_LIMIT:
            self._unacceptable.append(Fault(pointer, detail))

    def raise_any(self) -> None:
        if self._malformed:
            raise BadRequest("The scopes cannot be understood.", faults=tuple(self._malformed))
        if self._unacceptable:
            raise Unprocessable("The scopes are not acceptable.", faults=tuple(self._unacceptable))


def _read_map(value: dict[str, object], pointer: str, faults: _Faults) -> dict[str, Scope]:
    scopes = {}
    for resource, entry in value.items():
        place = f"{pointer}/{escaped(resource)}"
        if resource not in RESOURCES:
            faults.unacceptable(place, "is not a resource")
        elif not isinstance(entry, dict):
            faults.malformed(place, "must be an object")
        else:
            scopes[resource] = _read_scope(entry, place, ("access", "targets"), faults)
    return scopes


def _read_list(value: Sequence[object], pointer: str, faults: _Faults) -> dict[str, Scope]:
    scopes: dict[str, Scope] = {}
    for index, entry in enumerate(value):
        place = f"{pointer}/{index}"
        if not isinstance(entry, dict):
            faults.malformed(place, "must be an object")
            continue
        resource = entry.get("resource")
        scope = _read_scope(entry, place, ("access", "resource", "targets"), faults)
        if not isinstance(resource, str):
            faults.malformed(f"{place}/resource", "must be a string")
        elif resource not in RESOURCES:
            faults.unacceptable(f"{place}/resource", "is not a resource")
        elif resource in scopes:
            faults.unacceptable(f"{place}/resource", "is named twice")
        else:
            scopes[resource] = scope
    return scopes


def _read_scope(entry: dict[str, object], place: str, known: tuple[str, ...], faults: _Faults) -> Scope:
    for name in entry:
        if name not in known:
            faults.malformed(f"{place}/{escaped(name)}", "is not a known field")
    access = _read_access(entry.get("access", "write"), f"{place}/access", faults)
    return Scope(access, _read_targets(entry.get("targets", []), f"{place}/targets", faults))


def _read_access(value: object, place: str, faults: _Faults) -> Access:
    if not isinstance(value, str):
        faults.malformed(place, "must be a string")
    elif value == "read":
        return "read"
    elif value != "write":
        faults.unacceptable(place, "must be read or write")
    return "write"


def _read_targets(value: object, place: str, faults: _Faults) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list):
        faults.malformed(place, "must be a list of ids")
    elif len(value) > TARGETS_LIMIT:
        faults.unacceptable(place, f"must be at most {TARGETS_LIMIT} ids")
    elif value != ["*"]:
        for index, target in enumerate(value):
            _check_target(target, f"{place}/{index}", faults)
        return tuple(value)
    return _EVERYTHING


def _check_target(target: object, place: str, faults: _Faults) -> None:
    if not isinstance(target, str):
        faults.malformed(place, "must be a string")
    elif target == "*":
        faults.unacceptable(place, "must stand alone")
    elif not (is_public_id(target) or _is_schema_id(target)):
        faults.unacceptable(place, "is not an id")


def _is_schema_id(text: str) -> bool:
    return len(text) == _SCHEMA_ID_LENGTH and _HEX_DIGITS.issuperset(text)

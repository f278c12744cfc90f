"""What the operator allots to an organization: its rate limit, its quotas, and how long its messages are kept."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from discue.domain import quotas
from discue.domain.errors import Fault, Forbidden, Unprocessable
from discue.domain.quotas import setting_of
from discue.domain.scopes import Principal

Settings = Mapping[str, int | bool]

HIGHEST_RATE: Final = 2_147_483_647
LONGEST_RETENTION_SECONDS: Final = 3_153_600_000


class _Rule(NamedTuple):
    pointer: str
    highest: int


RULES: Final[Mapping[str, _Rule]] = {
    "rate_limit": _Rule("/rate_limit", HIGHEST_RATE),
    "retention_seconds": _Rule("/retention", LONGEST_RETENTION_SECONDS),
    **{setting_of(name): _Rule(f"/quotas/{name}", quotas.HIGHEST[name]) for name in quotas.NAMES},
}
"""By the names of the settings."""


def changed_limits(
    principal: Principal | None, stored: Settings, sent: Mapping[str, int | None]
) -> dict[str, int | bool]:
    """The settings with what was sent; None clears. `principal` is None for the command line.

    Raises Forbidden where anybody but the operator changes something, Unprocessable for a value out of its range.
    """
    changed = {name: value for name, value in stored.items() if sent.get(name, value) is not None}
    changed |= {name: value for name, value in sent.items() if value is not None}
    if changed == stored:
        return changed
    if principal is not None and not principal.is_operator:
        raise Forbidden("Only the operator's organization changes the limits of organizations.")
    faults = tuple(fault for name, value in sent.items() if (fault := _fault(name, value)) is not None)
    if faults:
        raise Unprocessable(f"The value at {faults[0].pointer} {faults[0].detail}.", faults=faults)
    return changed


def _fault(name: str, value: int | None) -> Fault | None:
    rule = RULES[name]
    if value is None or 0 <= value <= rule.highest:
        return None
    return Fault(rule.pointer, f"must be from 0 to {rule.highest}")

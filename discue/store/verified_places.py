"""Where an organization that wants its domains verified lets requests go."""

from typing import Final

from discue.domain.egress import parse_target
from discue.domain.errors import DiscueError
from discue.store import domains
from discue.store.engine import Transaction

SETTING: Final = "require_verified_domains"
"""Of an organization."""

_WANTED: Final = f'"{SETTING}":true'


def wants_verified_domains(settings: str) -> bool:
    """What an organization's settings say, as they are stored: compact JSON without any text of clients."""
    return _WANTED in settings


class VerifiedDomains:
    """Looks each place up once. For one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[tuple[int, str, int], bool] = {}

    async def has(self, organization: int, url: str) -> bool:
        """Whether the URL lies on a verified domain of the organization."""
        try:
            target = parse_target(url, "/url")
        except DiscueError:
            return False
        place = (organization, target.host, target.port)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = await domains.is_verified(self._tx, *place)
        return known

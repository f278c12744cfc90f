"""The list of an organization's event types."""

from functools import partial

from discue.domain.model import EventType
from discue.store import event_types
from discue.store.pagination import Listing, Selection
from discue.store.store import Store
from tests.store.rows import public_id, row_id
from tests.support.clocks import NOON

OURS = row_id(1)
NUMBERS = (10, 12, 11)
"""In the order in which they are inserted."""


async def test_every_page_says_whether_others_precede_and_follow_it(store: Store) -> None:
    for number in NUMBERS:
        made = EventType(OURS, row_id(number), public_id(number), f"order.{number}", "enabled", NOON, NOON)
        await store.write(partial(event_types.insert, made=made))

    async def read(only: list[str] | None = None, **selected: str) -> Listing[EventType]:
        selection = Selection(per_page=2, **selected)  # type: ignore[arg-type]
        return await store.read(partial(event_types.page, organization=OURS, selection=selection, only=only))

    def told(found: Listing[EventType]) -> tuple[list[str], bool, bool]:
        return [each.alias for each in found.items], found.has_next, found.has_previous

    for only in (None, [public_id(number) for number in NUMBERS]):
        assert told(await read(only)) == (["order.12", "order.11"], True, False)
        assert told(await read(only, after=public_id(11))) == (["order.10"], False, True)
        assert told(await read(only, before=public_id(10))) == (["order.12", "order.11"], True, False)
        assert told(await read(only, after=public_id(13))) == (["order.12", "order.11"], True, False)

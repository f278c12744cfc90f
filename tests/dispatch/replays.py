"""Replays on a stage."""

from collections.abc import Callable, Iterable

from discue.domain.attempts import Outcome
from discue.domain.ids import event_id_of
from discue.domain.model import Listener, Replay, ReplaySpec
from discue.store.replays import REPLAY_TABLE
from tests.dispatch.stage import Sent, Stage, well


async def ask(stage: Stage, listener: Listener, first: int = 1, last: int = 0, **fields: int | str) -> Replay:
    """Create a replay as the API does, from one seq to another or to the head."""
    last = last or (await stage.counts(listener)).head
    now, row_id = stage.clock.now(), stage.row_ids.next()
    pace, text = fields.get("pace"), fields.get("filter")
    made = Replay(
        organization=listener.organization,
        id=row_id,
        public_id=event_id_of(row_id),
        listener=listener.id,
        state="waiting",
        from_seq=first,
        until_seq=last,
        position=first - 1,
        selected=last - first + 1,
        created_at=now,
        updated_at=now,
        pace=pace if isinstance(pace, int) else None,
        spec=ReplaySpec(text if isinstance(text, str) else None),
    )
    await stage.store.write(lambda tx: REPLAY_TABLE.insert(tx, made))
    await stage.follow("listener", listener.organization, listener.id)
    return made


async def cancel(stage: Stage, replay: Replay) -> None:
    job_id = stage.row_ids.next()
    assert await stage.store.write(lambda tx: REPLAY_TABLE.delete(tx, replay, job_id))
    await stage.follow("listener", replay.organization, replay.listener)


async def stored(stage: Stage, replay: Replay) -> Replay:
    found = await stage.store.read(lambda tx: REPLAY_TABLE.get(tx, replay.organization, replay.public_id))
    assert found is not None
    return found


async def streams(stage: Stage) -> list[int]:
    """Return the streams of all replay cursors."""
    return [row[0] for row in await stage.rows("SELECT stream FROM cursor WHERE stream > 0 ORDER BY stream")]


def of_replays(sent: Iterable[Sent]) -> list[Sent]:
    return [each for each in sent if each.request.replay_id]


def live(sent: Iterable[Sent]) -> list[Sent]:
    return [each for each in sent if not each.request.replay_id]


async def deliver_all(stage: Stage, outcome: Callable[[Sent], Outcome] = lambda _: well()) -> list[Sent]:
    """End requests until none is in flight, and return them in the order in which they were sent."""
    before = len(stage.courier.sent)
    first = stage.courier.in_flight[::]
    while stage.courier.in_flight:
        for sent in stage.courier.in_flight[::]:
            sent.end(outcome(sent))
        await stage.quiet()
    return [*first, *stage.courier.sent[before:]]

"""Lost connections to the store: lanes may hold a history that the new server does not have."""

from tests.dispatch.stage import Stage, well
from tests.support.databases import on_sqlite_only

pytestmark = on_sqlite_only


async def test_invalidated_lanes_store_nothing(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    listener = await stage.listener(queue)
    await stage.start()
    [message] = await stage.publish(queue)
    stage.dispatcher.registry.invalidate()
    await stage.end(tuple(stage.courier.in_flight), well())
    assert (await stage.counts(listener)).acknowledged == 0
    await stage.dispatcher.registry.reset()
    await stage.quiet()
    assert stage.courier.ids() == [message]


async def test_no_lane_comes_up_before_the_store_is_read_again(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization())
    await stage.listener(queue)
    await stage.start()
    stage.dispatcher.registry.invalidate()
    await stage.listener(queue)
    await stage.publish(queue)
    assert len(stage.dispatcher.lanes) == 0
    await stage.dispatcher.registry.reset()
    await stage.quiet()
    assert len(stage.dispatcher.lanes) == 2

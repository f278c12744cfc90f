"""`/queues/{queue_id}/schedules`."""

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.delivery_options import retry_of, retry_shown
from discue.api.fields import Given, names_changed, names_given, status_of
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.message_options import key_of
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.resources.messages import LONGEST_ESCAPE, content_of
from discue.api.route import CREATE, SMALL_BODY, Call, Needs, Route
from discue.api.services import Services
from discue.control import schedules
from discue.control.schedules import LARGEST_DATA_BYTES, ScheduleFields
from discue.domain import headers
from discue.domain.schedule import Schedule, ScheduleRun, UnknownTimeZone, next_runs
from discue.domain.scopes import Principal
from discue.publishing.publish import NewMessage, check_messages

NEXT_RUNS = 5

_READ = Needs("messages", "read")
_WRITE = Needs("messages", "write")


async def create(call: Call) -> wire.Schedule:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: schedules.create(control, call.principal, call.ids[0], fields),
        lambda made: _answer(call, made, f"{call.url}/{made.public_id}"),
    )


async def get(call: Call) -> wire.Schedule:
    return _answer(call, await schedules.get(call.control, call.principal, *call.ids), call.url)


async def list_all(call: Call) -> wire.Schedules:
    items, links = await paged(
        call,
        lambda selection: schedules.page(call.control, call.principal, call.ids[0], selection),
        lambda item: LinkTarget(item.alias, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Schedules(schedules=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Schedule:
    queue_id, public_id = call.ids
    fields = _fields(call.body, names_changed(call.body, public_id))
    changed = await schedules.change(call.control, call.principal, queue_id, public_id, fields)
    return _answer(call, changed, call.url)


async def delete(call: Call) -> wire.Deleted:
    await schedules.delete(call.control, call.principal, *call.ids)
    return wire.Deleted(links=link_to(call.url))


async def schedule_limit(_services: Services, _principal: Principal, _ids: tuple[str, ...]) -> int:
    """Room for the largest data, however it is escaped."""
    return SMALL_BODY + LARGEST_DATA_BYTES * LONGEST_ESCAPE


def _fields(body: bodies.ScheduleBody, given: Given) -> ScheduleFields:
    return ScheduleFields(
        given.alias,
        given.name,
        status_of(body.status),
        body.cron if isinstance(body.cron, str) else None,
        body.time_zone,
        body.starts_at,
        body.ends_at,
        body.missed_runs,
        body.catch_up_limit,
        _data(body.data),
        UNSET if body.key is UNSET else key_of(body.key, "/key"),
        headers.check_headers(body.headers or {}, "/headers") if body.headers is not UNSET else UNSET,
        retry_of(body.retry),
        body.expires_in,
    )


def _data(sent: bodies.AsSent) -> tuple[bytes, bool] | None:
    """Raises PayloadTooLarge, before anything else is looked at."""
    if not bytes(sent):
        return None
    data, is_json = content_of(sent)
    check_messages([NewMessage(data, is_json)], LARGEST_DATA_BYTES, None)
    return data, is_json


def _answer(call: Call, schedule: Schedule, url: str) -> wire.Schedule:
    shown = _shown(schedule, data=schedule.data.decode())
    return call.with_etag(schedule, wire.Schedule(schedule=shown, links=link_to(url)))


def _shown(schedule: Schedule, *, data: str | None = None) -> wire.ScheduleShown:
    timing, options = schedule.timing, schedule.options
    return wire.ScheduleShown(
        id=schedule.public_id,
        alias=schedule.alias,
        name=schedule.alias,
        queue_id=schedule.queue_public_id,
        status=schedule.status,
        cron=timing.cron,
        time_zone=timing.time_zone,
        missed_runs=schedule.missed.runs,
        catch_up_limit=schedule.missed.limit,
        next_runs=_to_come(schedule),
        last_run=UNSET if schedule.last_run is None else _run(schedule.last_run),
        starts_at=UNSET if timing.starts_at is None else timing.starts_at,
        ends_at=UNSET if timing.ends_at is None else timing.ends_at,
        data=UNSET if data is None else data,
        key=UNSET if options.key is None else options.key,
        headers=dict(options.headers) if options.headers else UNSET,
        retry=retry_shown(options.retry),
        expires_in=UNSET if schedule.expires_in is None else schedule.expires_in,
        created_at=schedule.created_at,
        updated_at=schedule.updated_at,
    )


def _to_come(schedule: Schedule) -> list[int]:
    try:
        return list(next_runs(schedule, NEXT_RUNS))
    except UnknownTimeZone:
        # Whoever runs it says so in its last run.
        return []


def _run(run: ScheduleRun) -> wire.RunShown:
    return wire.RunShown(
        scheduled_at=run.scheduled_at,
        ran_at=run.ran_at,
        state="skipped" if run.reason else "published",
        message_id=run.message_id or UNSET,
        reason=run.reason or UNSET,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/schedules",
        handler=list_all,
        response=wire.Schedules,
        needs=_READ,
        statuses=(404,),
        query=PAGES,
        summary="List the schedules of a queue",
    ),
    Route(
        methods=CREATE,
        path="/queues/{queue_id}/schedules",
        handler=create,
        request=bodies.ScheduleBody,
        response=wire.Schedule,
        needs=_WRITE,
        statuses=(404, 409, 422),
        limit=schedule_limit,
        summary="Create a schedule",
        description="From now on it publishes a message at each of its runs, whatever number of workers there are.",
        required=("cron", "data"),
        example={"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Zurich", "data": {"report": "daily"}},
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/schedules/{schedule_id}",
        handler=get,
        response=wire.Schedule,
        needs=_READ,
        statuses=(404,),
        summary="Get a schedule",
    ),
    Route(
        methods=("PUT",),
        path="/queues/{queue_id}/schedules/{schedule_id}",
        handler=change,
        request=bodies.ScheduleBody,
        response=wire.Schedule,
        needs=_WRITE,
        statuses=(404, 422),
        limit=schedule_limit,
        summary="Change a schedule",
        description="Where that changes when it runs, it counts from now on.",
        example={"status": "disabled"},
    ),
    Route(
        methods=("DELETE",),
        path="/queues/{queue_id}/schedules/{schedule_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a schedule",
        description="It runs no more. The messages that it published stay.",
    ),
)

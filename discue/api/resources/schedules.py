"""Schedules of a queue."""

from typing import Annotated, Any, ClassVar, Final, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import (
    KEY_LIMITS,
    HeadersSent,
    HeadersShown,
    RetrySent,
    RetryShown,
    TypeSent,
    TypeShown,
    key_given,
    retry_given,
    retry_view,
)
from discue.api.message_data import (
    EITHER_DATA,
    Base64Sent,
    Base64Shown,
    ContentTypeSent,
    ContentTypeShown,
    DataShown,
    content_type_given,
    data_fields,
    data_given,
    sent_data,
)
from discue.api.resource import ResourceKind, fields_of, view_of
from discue.api.route import Call, Needs, body_limit
from discue.api.structs import (
    INSTANT,
    NOT_SENT,
    QUEUE_ID,
    ApiResponse,
    AsSent,
    Integer,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
    status_given,
    text_given,
    within,
)
from discue.control import schedules
from discue.control.schedules import EXPIRES_IN_SECONDS, LARGEST_DATA_BYTES, MISSED_RUNS, ScheduleFields
from discue.domain import headers
from discue.domain.message_data import SentData
from discue.domain.reservations import LARGE_RESOURCE
from discue.domain.schedule import (
    CATCH_UP,
    MACROS,
    MAX_CRON_CHARACTERS,
    Schedule,
    SkipReason,
    UnknownTimeZone,
    next_runs,
)
from discue.publishing.publish import NewMessage, check_sizes

NEXT_RUNS = 5

_SKIP_REASONS: Final = list(get_args(SkipReason))
_READ = Needs("messages", "read")

_CRON: Final = doc(
    "When it runs: minute, hour, day of the month, month and day of the week, separated by spaces, or one of "
    f"{', '.join(MACROS)}.",
    "0 9 * * MON-FRI",
    maxLength=MAX_CRON_CHARACTERS,
    pattern="^[ \\t0-9A-Za-z*,/#@-]+$",
)
_TIME_ZONE: Final = doc(
    "IANA name of the time zone of `cron`. Default: UTC.", "Europe/Zurich", pattern="^[A-Za-z0-9_+/-]+$", maxLength=64
)
_MISSED_RUNS: Final = doc(
    "Handling of runs that no worker was there for: `skip` (the default) drops them, `catch_up` publishes the "
    "newest `catch_up_limit` of them.",
    "skip",
    enum=list(MISSED_RUNS),
)
_CATCH_UP_LIMIT: Final = doc("Maximum number of missed runs to catch up on. Default: 10.", 10, **within(CATCH_UP))
_STARTS_AT: Final = doc(
    "The earliest time of a run, in milliseconds since the epoch, at most ten years ahead.",
    1_795_536_280_000,
    **INSTANT,
)
_ENDS_AT: Final = instant_doc("The time before which it runs", 1_893_456_000_000)
_EXPIRES_IN: Final = doc(
    "How long after its run each message expires, in seconds: a listener that has not received it by then misses it.",
    3_600,
    **within(EXPIRES_IN_SECONDS),
)
_ENABLED: Final = {"enum": ["enabled", "disabled"]}


@read_only("queue_id", "next_runs", "last_run")
class ScheduleBody(NamedBody, kw_only=True):
    """A schedule to create, or the changes to one."""

    sample: ClassVar = {"cron": "0 9 * * MON-FRI", "time_zone": "Europe/Zurich", "data": {"report": "daily"}}
    opaque_fields = ("data", "data_base64")

    alias: Annotated[
        Text,
        doc(
            "The name, unique among the schedules of the queue, and the alias of its messages.",
            "daily-report",
            pattern="^[A-Za-z0-9._/-]{1,64}$",
        ),
    ] = UNSET
    cron: Annotated[str | UnsetType, _CRON] = UNSET
    time_zone: Annotated[Text, _TIME_ZONE] = UNSET
    data: Annotated[
        AsSent,
        doc(
            "The data of each message: a string, or any other JSON value, which is delivered as written. At most "
            f"{LARGEST_DATA_BYTES:,} bytes.",
            {"report": "daily"},
        ),
    ] = NOT_SENT
    data_base64: Base64Sent = NOT_SENT
    content_type: ContentTypeSent = UNSET
    status: Annotated[
        Text, doc("Whether it runs. Runs that it is disabled for are not caught up on.", "enabled", **_ENABLED)
    ] = UNSET
    missed_runs: Annotated[Text, _MISSED_RUNS] = UNSET
    catch_up_limit: Annotated[Integer, _CATCH_UP_LIMIT] = UNSET
    starts_at: Annotated[Integer, _STARTS_AT] = UNSET
    ends_at: Annotated[Integer, _ENDS_AT] = UNSET
    type: TypeSent = UNSET
    key: Annotated[
        Text,
        doc(
            "The key of each message. In an ordered queue they are delivered one after the other.",
            "reports",
            **KEY_LIMITS,
        ),
    ] = UNSET
    headers: HeadersSent = UNSET
    retry: RetrySent = UNSET
    expires_in: Annotated[Integer, _EXPIRES_IN] = UNSET


class RunView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A run of a schedule: either `message_id` or `reason` is set."""

    scheduled_at: Annotated[int, instant_doc("When it was scheduled", 1_795_536_240_000)]
    ran_at: Annotated[int, instant_doc("When it ran", 1_795_536_240_004)]
    state: Annotated[str, doc("The outcome.", "published", enum=["published", "skipped"])]
    message_id: Annotated[str | UnsetType, id_doc("message_id", "The id of its message.")] = UNSET
    reason: Annotated[str | UnsetType, doc("Why it published nothing.", "schema", enum=_SKIP_REASONS)] = UNSET


class ScheduleView(View, kw_only=True, frozen=True):
    """A schedule. Lists omit `data`; options that were not set are omitted."""

    id: Annotated[str, id_doc("schedule_id")]
    queue_id: Annotated[str, QUEUE_ID]
    status: Annotated[str, doc("Whether it runs.", "enabled", **_ENABLED)]
    cron: Annotated[str, _CRON]
    time_zone: Annotated[str, _TIME_ZONE]
    missed_runs: Annotated[str, _MISSED_RUNS]
    catch_up_limit: Annotated[int, _CATCH_UP_LIMIT]
    next_runs: Annotated[
        list[int],
        doc(
            "The next five runs, in milliseconds since the epoch; empty if it is disabled or has ended.",
            [1_795_536_300_000],
            maxItems=NEXT_RUNS,
            items={"type": "integer", **INSTANT},
        ),
    ]
    last_run: Annotated[RunView | UnsetType, doc("The last run.")] = UNSET
    starts_at: Annotated[int | UnsetType, _STARTS_AT] = UNSET
    ends_at: Annotated[int | UnsetType, _ENDS_AT] = UNSET
    data: DataShown = UNSET
    data_base64: Base64Shown = UNSET
    content_type: ContentTypeShown = UNSET
    type: TypeShown = UNSET
    key: Annotated[str | UnsetType, doc("The key of each message.", "reports")] = UNSET
    headers: HeadersShown = UNSET
    retry: RetryShown = UNSET
    expires_in: Annotated[int | UnsetType, _EXPIRES_IN] = UNSET


def _fields(call: Call) -> ScheduleFields:
    body: ScheduleBody = call.body
    return fields_of(
        call,
        ScheduleFields,
        status=status_given(body.status),
        cron=text_given(body.cron),
        data=_data(body),
        content_type=UNSET if body.content_type is UNSET else content_type_given(body.content_type, ""),
        key=UNSET if body.key is UNSET else key_given(body.key, "/key"),
        headers=headers.check_headers(body.headers or {}, "/headers") if body.headers is not UNSET else UNSET,
        retry=retry_given(body.retry),
    )


def _data(body: ScheduleBody) -> SentData | None:
    """Raises PayloadTooLarge and Unprocessable."""
    sent = sent_data(body.data, body.data_base64, "")
    if sent is not None:
        # The content type may add quotes, which are counted when the data is stored.
        data, pointer = data_given(body.data, body.data_base64, None, "")
        check_sizes([NewMessage(*data, pointer=pointer)], LARGEST_DATA_BYTES)
    return sent


def _view(schedule: Schedule) -> ScheduleView:
    timing, options = schedule.timing, schedule.options
    last = schedule.last_run
    return view_of(
        ScheduleView,
        schedule,
        timing,
        options,
        missed_runs=schedule.missed.runs,
        catch_up_limit=schedule.missed.limit,
        next_runs=_next_runs(schedule),
        last_run=UNSET if last is None else view_of(RunView, last, state="skipped" if last.reason else "published"),
        headers=dict(options.headers) or UNSET,
        retry=retry_view(options.retry),
        data=UNSET,
    )


def _next_runs(schedule: Schedule) -> list[int]:
    try:
        return list(next_runs(schedule, NEXT_RUNS))
    except UnknownTimeZone:
        # The worker that runs it reports this as the reason of its last run.
        return []


class _Schedules(ResourceKind[Schedule]):
    def one(self, call: Call, item: Schedule, **fields: Any) -> ApiResponse:
        return super().one(call, item, **data_fields(item.data, item.codec), **fields)


_SCHEDULES: Final = _Schedules(
    path="/queues/{queue_id}/schedules",
    name="schedule",
    view_type=ScheduleView,
    view=lambda _, schedule: _view(schedule),
    needs=(_READ, _READ, Needs("messages", "write")),
    body=ScheduleBody,
    fields=_fields,
    codes=("quota_exceeded", "alias_taken", "message_too_large", "unknown_type", "schema_violation"),
    # The largest data, with every character escaped.
    limit=body_limit(LARGEST_DATA_BYTES),
    reads=LARGE_RESOURCE,
)

ROUTES = (
    _SCHEDULES.list_route(schedules.page, "List the schedules of a queue."),
    _SCHEDULES.create_route(
        schedules.create,
        "Create a schedule. Publishes a message at each of its runs, once, whatever the number of workers.",
        *("limit_reached", "system_queue_read_only"),
        required=("cron",),
        required_either=EITHER_DATA,
    ),
    _SCHEDULES.get_route(schedules.get, "Get a schedule."),
    _SCHEDULES.change_route(
        schedules.change,
        "Change a schedule. A change of its times applies from now on.",
        example={"status": "disabled"},
    ),
    _SCHEDULES.delete_route(schedules.delete, "Delete a schedule. The messages that it published stay."),
)

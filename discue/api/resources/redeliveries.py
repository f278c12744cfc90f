"""Messages that a listener missed, and their redeliveries."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.idempotency import created
from discue.api.pagination import MISSED_PAGES, PAGES, paged
from discue.api.resources.messages import MESSAGE_ALIAS, MESSAGE_NAME
from discue.api.route import DELETE, GET, POST, Call, Needs, Route
from discue.api.structs import (
    COUNT,
    EXAMPLE_IDS,
    LISTENER_ID,
    QUEUE_ID,
    ApiResponse,
    DeletedResponse,
    Flag,
    Integer,
    LinkTarget,
    ResourceBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    link_to,
    number_given,
    or_unset,
    own_id_doc,
    text_given,
    within,
)
from discue.control import redeliveries
from discue.control.redeliveries import RedeliveryParams, RedeliveryResult
from discue.domain.errors import BadRequest, Fault, invalid
from discue.domain.model import MISSED_REASONS, Redelivery
from discue.store.listener_messages import MissedMessage

PATH = "/queues/{queue_id}/listeners/{listener_id}"
MESSAGES_AT_MOST = 1_000
TIMES: Final = range(1_000_000_000_000_000)
RATES: Final = range(1, 10_001)
TIME: Final = within(TIMES)
MESSAGE_RATE: Final = doc("Maximum number of messages per second.", 100, **within(RATES))
DRY_RUN: Final = doc("Whether to return only what would be selected.", False)
SELECTED: Final = doc("Number selected. Single deliveries outside of ranges are counted up to 100,000.", 17, **COUNT)
PROGRESS: Final = doc("The progress.", "running", enum=["waiting", "running", "done"])
ENDED_AT: Final = instant_doc("When it was done; 0: not yet", 0)

_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")


class MissedMessageView(msgspec.Struct, kw_only=True, frozen=True):
    """A message that a listener missed."""

    id: Annotated[str, id_doc("The id of the message.", "message_id")]
    alias: Annotated[str, MESSAGE_ALIAS]
    name: Annotated[str, MESSAGE_NAME]
    stored_at: Annotated[int, instant_doc("When the message was stored")]
    missed_at: Annotated[int, instant_doc("When it was missed", 1_795_795_480_000)]
    reason: Annotated[
        str,
        doc(
            "Why it was missed: it is out of attempts, expired, got a final response, was rejected for good, or is too "
            "old.",
            "attempts_used_up",
            enum=list(MISSED_REASONS),
        ),
    ]
    attempts: Annotated[int, doc("Number of attempts.", 1, **COUNT)]


class MissedMessagesResponse(ApiResponse, kw_only=True, frozen=True):
    missed: Annotated[list[MissedMessageView], doc("The missed messages, newest first.")]


class MissedFilterBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Selects missed messages to redeliver."""

    reason: Annotated[Text, doc("Only messages missed for this reason.", "too_old", enum=list(MISSED_REASONS))] = UNSET
    created_after: Annotated[
        Integer,
        doc("Only messages stored later than this, in milliseconds since the epoch.", 1_795_536_280_000, **TIME),
    ] = UNSET
    created_before: Annotated[
        Integer,
        doc("Only messages stored earlier than this, in milliseconds since the epoch.", 1_893_456_000_000, **TIME),
    ] = UNSET


class RedeliveryBody(ResourceBody, kw_only=True):
    """A redelivery to start. Exactly one of `messages`, `filter` and `all` selects what is redelivered."""

    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "messages": {"type": "array"},
        "filter": {"type": "object"},
        "all": {"const": True},
    }

    messages: Annotated[
        list[str] | None | UnsetType,
        doc("The ids of missed messages.", [EXAMPLE_IDS["message_id"]], minItems=1, maxItems=MESSAGES_AT_MOST),
    ] = UNSET
    filter: Annotated[
        MissedFilterBody | None | UnsetType,
        doc("Which missed messages; an empty filter selects all.", {"reason": "too_old"}),
    ] = UNSET
    all: Annotated[Flag, doc("Selects all missed messages.", True)] = UNSET
    pace: Annotated[Integer, MESSAGE_RATE] = UNSET
    dry_run: Annotated[Flag, DRY_RUN] = UNSET


class RedeliveryCountsView(msgspec.Struct, frozen=True):
    """Numbers of deliveries."""

    selected: Annotated[int, SELECTED]
    redelivered: Annotated[int, doc("Deliveries that are due again, or were.", 16, **COUNT)]
    gone: Annotated[int, doc("Deliveries of messages that were deleted before.", 1, **COUNT)]


class RedeliveryView(View, kw_only=True, frozen=True):
    """A redelivery of missed messages."""

    id: Annotated[str, own_id_doc("redelivery_id")]
    alias: Annotated[str, id_doc("The id.", "redelivery_id")]
    name: Annotated[str, id_doc("The id.", "redelivery_id")]
    queue_id: Annotated[str, QUEUE_ID]
    listener_id: Annotated[str, LISTENER_ID]
    state: Annotated[str, PROGRESS]
    counts: Annotated[RedeliveryCountsView, doc("Numbers of deliveries.")]
    ended_at: Annotated[int, ENDED_AT]
    pace: Annotated[int | UnsetType, MESSAGE_RATE] = UNSET


class DryRunView(msgspec.Struct, frozen=True):
    """The messages that a dry run selects."""

    selected: Annotated[int, SELECTED]
    first_message: Annotated[
        str, doc("The id of the oldest message; empty if there is none.", EXAMPLE_IDS["message_id"])
    ]
    last_message: Annotated[
        str, doc("The id of the newest message; empty if there is none.", EXAMPLE_IDS["message_id"])
    ]


class RedeliveryResponse(ApiResponse, kw_only=True, frozen=True):
    redelivery: Annotated[RedeliveryView, doc("The redelivery.")]


class NewRedeliveryResponse(ApiResponse, kw_only=True, frozen=True, omit_defaults=True):
    redelivery: Annotated[RedeliveryView | UnsetType, doc("The redelivery.")] = UNSET
    dry_run: Annotated[DryRunView | UnsetType, doc("The messages that are selected, in a dry run.")] = UNSET


class RedeliveriesResponse(ApiResponse, kw_only=True, frozen=True):
    redeliveries: Annotated[list[RedeliveryView], doc("The redeliveries, newest first.")]


async def list_missed(call: Call) -> MissedMessagesResponse:
    """List the messages that a listener missed."""
    items, links = await paged(
        call,
        lambda selection: redeliveries.page_of_missed(call.control, call.principal, call.listener_path, selection),
        lambda item: _missed_target(call, item),
    )
    return MissedMessagesResponse(missed=[_missed_view(item) for item in items], links=links)


def _missed_target(call: Call, item: MissedMessage) -> LinkTarget:
    return LinkTarget(item.alias, item.id, f"{call.base}/queues/{call.ids[0]}/messages/{item.id}")


def _missed_view(item: MissedMessage) -> MissedMessageView:
    return MissedMessageView(
        id=item.id,
        alias=item.alias,
        name=item.alias,
        stored_at=item.stored_at,
        missed_at=item.missed_at,
        reason=item.reason,
        attempts=item.attempts,
    )


async def create(call: Call) -> NewRedeliveryResponse:
    """Redeliver missed messages.

    Selected deliveries are due again, with all their attempts. With `dry_run`, nothing changes.
    """
    params = _params(call.body)
    return await created(
        call,
        lambda control: redeliveries.create(control, call.principal, call.listener_path, params),
        lambda result: _response(call, result),
    )


async def get(call: Call) -> RedeliveryResponse:
    """Get a redelivery."""
    found = await redeliveries.get(call.control, call.principal, call.listener_path, call.ids[2])
    return call.with_etag(found, RedeliveryResponse(redelivery=_view(call, found), links=link_to(call.url)))


async def list_all(call: Call) -> RedeliveriesResponse:
    """List the redeliveries of a listener."""
    items, links = await paged(
        call,
        lambda selection: redeliveries.page(call.control, call.principal, call.listener_path, selection),
        lambda item: call.item(item.public_id, item.public_id),
    )
    return RedeliveriesResponse(redeliveries=[_view(call, item) for item in items], links=links)


async def cancel(call: Call) -> DeletedResponse:
    """Cancel a redelivery. Deletes it at once. Deliveries that are due again already stay due."""
    await redeliveries.cancel(call.control, call.principal, call.listener_path, call.ids[2])
    return DeletedResponse(links=link_to(call.url))


def _params(body: RedeliveryBody) -> RedeliveryParams:
    """Raises BadRequest unless there is exactly one selection, Unprocessable for values out of bounds."""
    messages = body.messages if isinstance(body.messages, list) else None
    chosen = body.filter if isinstance(body.filter, MissedFilterBody) else None
    if [messages is not None, chosen is not None, body.all is True].count(True) != 1:
        rule = "must have exactly one of messages, filter, and all (true)"
        raise BadRequest(f"The request {rule}.", faults=(Fault("", rule),))
    if messages is not None and not 1 <= len(messages) <= MESSAGES_AT_MOST:
        raise invalid("/messages", f"must have 1 to {MESSAGES_AT_MOST} ids")
    given = chosen or MissedFilterBody()
    reason = text_given(given.reason)
    if reason is not None and reason not in MISSED_REASONS:
        raise invalid("/filter/reason", f"must be one of {', '.join(MISSED_REASONS)}")
    return RedeliveryParams(
        None if messages is None else tuple(messages),
        reason,
        number_given(given.created_after, TIMES, "/filter/created_after"),
        number_given(given.created_before, TIMES, "/filter/created_before"),
        number_given(body.pace, RATES, "/pace"),
        dry_run=body.dry_run is True,
    )


def _response(call: Call, result: RedeliveryResult) -> NewRedeliveryResponse:
    preview = result.preview
    if result.redelivery is None:
        dry_run = DryRunView(selected=preview.selected, first_message=preview.first, last_message=preview.last)
        return NewRedeliveryResponse(dry_run=dry_run, links=link_to(call.url))
    url = f"{call.url}/{result.redelivery.public_id}"
    shown = NewRedeliveryResponse(redelivery=_view(call, result.redelivery), links=link_to(url))
    return call.with_etag(result.redelivery, shown)


def _view(call: Call, redelivery: Redelivery) -> RedeliveryView:
    return RedeliveryView(
        id=redelivery.public_id,
        alias=redelivery.public_id,
        name=redelivery.public_id,
        queue_id=call.ids[0],
        listener_id=call.ids[1],
        state=redelivery.state,
        counts=RedeliveryCountsView(
            selected=redelivery.selected, redelivered=redelivery.redelivered, gone=redelivery.gone
        ),
        pace=or_unset(redelivery.pace),
        created_at=redelivery.created_at,
        updated_at=redelivery.updated_at,
        ended_at=redelivery.ended_at or 0,
    )


ROUTES = (
    Route(GET, f"{PATH}/missed", list_missed, Needs("listeners", "read"), query=MISSED_PAGES),
    Route(GET, f"{PATH}/redeliveries", list_all, _READ, query=PAGES),
    Route(POST, f"{PATH}/redeliveries", create, _WRITE, RedeliveryBody, example={"all": True}),
    Route(GET, f"{PATH}/redeliveries/{{redelivery_id}}", get, _READ),
    Route(DELETE, f"{PATH}/redeliveries/{{redelivery_id}}", cancel, _WRITE),
)

"""`/queues/{queue_id}/messages/{message_id}/attempts`, and those of a listener."""

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from discue.api import wire
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged, selection_of_attempts
from discue.api.parameters import LISTENER_ATTEMPT_PAGES, MESSAGE_ATTEMPT_PAGES
from discue.api.route import Call, Needs, Route
from discue.control import messages
from discue.control.messages import AttemptDetails
from discue.domain.attempts import AttemptDetail, StoredAttempt, Timings

_OF_MESSAGE = Needs("messages", "read")
_OF_LISTENER = Needs("listeners", "read")


async def list_of_message(call: Call) -> wire.Attempts:
    items, links = await paged(
        call,
        lambda selection: messages.page_of_attempts(call.control, call.principal, call.ids, selection),
        lambda item: _named(call, item),
        selection=selection_of_attempts(call.query, of_message=True),
    )
    return wire.Attempts(attempts=[_shown(item) for item in items], links=links)


async def list_of_listener(call: Call) -> wire.Attempts:
    items, links = await paged(
        call,
        lambda selection: messages.page_of_listener_attempts(call.control, call.principal, call.ids, selection),
        lambda item: _named(call, item),
        selection=selection_of_attempts(call.query, of_message=False),
    )
    return wire.Attempts(attempts=[_shown(item) for item in items], links=links)


async def get_of_message(call: Call) -> wire.Attempt:
    *path, attempt_id = call.ids
    return _answer(call, await messages.get_attempt(call.control, call.principal, tuple(path), attempt_id))


async def get_of_listener(call: Call) -> wire.Attempt:
    *path, attempt_id = call.ids
    return _answer(call, await messages.get_listener_attempt(call.control, call.principal, tuple(path), attempt_id))


def _answer(call: Call, details: AttemptDetails) -> wire.Attempt:
    shown = _shown(details.attempt, **({} if details.detail is None else details_shown(details.detail)))
    return call.with_etag(details.attempt, wire.Attempt(attempt=shown, links=link_to(call.url)))


def _named(call: Call, attempt: StoredAttempt) -> LinkTarget:
    return LinkTarget(attempt.id, attempt.id, f"{call.url}/{attempt.id}")


def _shown(attempt: StoredAttempt, **details: Any) -> wire.AttemptShown:
    return wire.AttemptShown(
        id=attempt.id,
        message_id=attempt.message_id or UNSET,
        listener_id=attempt.listener_public_id,
        number=attempt.number,
        state=attempt.state,
        status=attempt.status,
        error=attempt.error,
        detail=attempt.detail,
        took_ms=attempt.duration_ms,
        started_at=attempt.ended_at - attempt.duration_ms,
        created_at=attempt.ended_at,
        replay_id=attempt.replay_id or UNSET,
        **details,
    )


def details_shown(detail: AttemptDetail) -> dict[str, Any]:
    """What an attempt shows beside its record."""
    return {
        "next_attempt_at": detail.next_attempt_at or UNSET,
        "connection": wire.ConnectionShown(detail.address, detail.is_reused) if detail.address else UNSET,
        "timings": _timings(detail.timings),
        "request": wire.RequestShown(_headers(detail.request_headers)),
        "response": _response(detail),
    }


def _response(detail: AttemptDetail) -> wire.ResponseShown | UnsetType:
    """Nothing where nothing was answered."""
    if detail.timings.first_byte_ms is None:
        return UNSET
    body = detail.body.decode("utf-8", "replace")
    return wire.ResponseShown(_headers(detail.response_headers), body, detail.body_bytes)


def _headers(headers: Iterable[tuple[str, str]]) -> list[wire.HeaderShown]:
    return [wire.HeaderShown(name, value) for name, value in headers]


def _timings(timings: Timings) -> wire.TimingsShown:
    known: dict[str, Any] = {name: value for name, value in asdict(timings).items() if value is not None}
    return wire.TimingsShown(**known)


ROUTES = (
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/messages/{message_id}/attempts",
        handler=list_of_message,
        response=wire.Attempts,
        needs=_OF_MESSAGE,
        statuses=(404,),
        query=MESSAGE_ATTEMPT_PAGES,
        summary="List the attempts to deliver a message",
        description="To all listeners, without their details.",
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/messages/{message_id}/attempts/{attempt_id}",
        handler=get_of_message,
        response=wire.Attempt,
        needs=_OF_MESSAGE,
        statuses=(404,),
        summary="Get an attempt to deliver a message",
        description="With its details, where they were kept.",
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/listeners/{listener_id}/attempts",
        handler=list_of_listener,
        response=wire.Attempts,
        needs=_OF_LISTENER,
        statuses=(404,),
        query=LISTENER_ATTEMPT_PAGES,
        summary="List the attempts to deliver to a listener",
        description=(
            "Of all its messages, without their details. A page may be short, or empty, and still have a `next`: the "
            "end of the list is where there is none."
        ),
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/listeners/{listener_id}/attempts/{attempt_id}",
        handler=get_of_listener,
        response=wire.Attempt,
        needs=_OF_LISTENER,
        statuses=(404,),
        summary="Get an attempt to deliver to a listener",
        description="With its details, where they were kept.",
    ),
)

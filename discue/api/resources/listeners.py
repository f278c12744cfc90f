"""`/queues/{queue_id}/listeners` and `/listeners`."""

from msgspec import UNSET, UnsetType

from discue.api import bodies, wire
from discue.api.delivery_options import (
    authentication_of,
    authentication_shown,
    effective_shown,
    filter_shown,
    options_of,
    rate_shown,
    retry_shown,
)
from discue.api.fields import Given, names_changed, names_given, status_of
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import listeners
from discue.control.listeners import ListenerDetails, ListenerFields
from discue.domain.listener_health import Liveness

_READ = Needs("listeners", "read")
_LIST = Needs("listeners", "read", listing=True)
_WRITE = Needs("listeners", "write")


async def create(call: Call) -> wire.Listener:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: listeners.create(control, call.principal, call.ids[0], fields),
        lambda made: _answer(call, made, f"{call.url}/{made.listener.public_id}"),
    )


async def get(call: Call) -> wire.Listener:
    return _answer(call, await listeners.get(call.control, call.principal, *call.ids), call.url)


async def list_all(call: Call) -> wire.Listeners:
    items, links = await paged(
        call,
        lambda selection: listeners.page(call.control, call.principal, selection),
        lambda item: _named(call, item),
    )
    return wire.Listeners(listeners=[_shown(call, item) for item in items], links=links)


async def list_of_queue(call: Call) -> wire.Listeners:
    items, links = await paged(
        call,
        lambda selection: listeners.page_of_queue(call.control, call.principal, call.ids[0], selection),
        lambda item: _named(call, item),
    )
    return wire.Listeners(listeners=[_shown(call, item) for item in items], links=links)


async def change(call: Call) -> wire.Listener:
    queue_id, public_id = call.ids
    fields = _fields(call.body, names_changed(call.body, public_id))
    details = await listeners.change(call.control, call.principal, queue_id, public_id, fields)
    return _answer(call, details, call.url)


async def delete(call: Call) -> wire.Deleted:
    await listeners.delete(call.control, call.principal, *call.ids)
    return wire.Deleted(links=link_to(call.url))


def _fields(body: bodies.ListenerBody, given: Given) -> ListenerFields:
    return ListenerFields(
        given.alias,
        given.name,
        status_of(body.status),
        _mode(body.mode),
        _url(body.notify_url),
        _url(body.liveness_url),
        options_of(body),
        authentication_of(body.authentication),
    )


def _mode(sent: bodies.Text) -> str | None:
    """null is as good as nothing in a `POST`; in a `PUT` it clears: the mode is push again, if it was not."""
    return None if sent is UNSET else "push" if sent is None else str(sent)


def _url(sent: str | UnsetType) -> str | None:
    return None if isinstance(sent, UnsetType) else sent


def _named(call: Call, details: ListenerDetails) -> LinkTarget:
    listener = details.listener
    url = f"{call.base}/queues/{listener.queue_public_id}/listeners/{listener.public_id}"
    return LinkTarget(listener.alias, listener.public_id, url)


def _answer(call: Call, details: ListenerDetails, url: str) -> wire.Listener:
    return call.with_etag(details.listener, wire.Listener(listener=_shown(call, details), links=link_to(url)))


def _shown(call: Call, details: ListenerDetails) -> wire.ListenerShown:
    listener, options = details.listener, details.listener.options
    return wire.ListenerShown(
        id=listener.public_id,
        alias=listener.alias,
        name=listener.alias,
        queue_id=listener.queue_public_id,
        status=listener.status,
        mode=listener.mode,
        notify_url=listener.notify_url or UNSET,
        liveness_url=listener.liveness_url or UNSET,
        lease_seconds=UNSET if options.lease_seconds is None else options.lease_seconds,
        liveness=_liveness(details.liveness),
        messages=_messages(details),
        effective=effective_shown(listener, call.control.settings),
        headers=dict(options.headers) if options.headers else UNSET,
        timeout=UNSET if options.timeout_seconds is None else options.timeout_seconds,
        max_in_flight=UNSET if options.max_in_flight is None else options.max_in_flight,
        rate_limit=rate_shown(options.rate_limit),
        retry=retry_shown(options.retry),
        filter=filter_shown(options.filter),
        format=UNSET if options.format == "plain" else options.format,
        authentication=authentication_shown(options.authentication),
        secret=details.secret or UNSET,
        created_at=listener.created_at,
        updated_at=listener.updated_at,
    )


def _liveness(known: Liveness) -> wire.Liveness:
    return wire.Liveness(
        state=known.state,
        success_count=known.success_count,
        failure_count=known.failure_count,
        last_success_at=known.last_success_at,
        last_failure_at=known.last_failure_at,
        last_failure_status=known.last_failure_status,
        last_failure_msg=known.last_failure_msg,
    )


def _messages(details: ListenerDetails) -> wire.ListenerMessages:
    counts = details.counts
    return wire.ListenerMessages(
        acknowledged_count=counts.acknowledged,
        missed=details.missed,
        missed_count=counts.missed,
        pending_count=counts.pending,
        last_success_at=counts.last_success_at,
        last_failure_at=counts.last_failure_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/listeners",
        handler=list_all,
        response=wire.Listeners,
        needs=_LIST,
        query=PAGES,
        summary="List the listeners of all queues",
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/listeners",
        handler=list_of_queue,
        response=wire.Listeners,
        needs=_LIST,
        statuses=(404,),
        query=PAGES,
        summary="List the listeners of a queue",
    ),
    Route(
        methods=CREATE,
        path="/queues/{queue_id}/listeners",
        handler=create,
        request=bodies.ListenerBody,
        response=wire.Listener,
        needs=_WRITE,
        statuses=(402, 404, 422),
        required=("notify_url", "liveness_url"),
        required_unless=("mode", "pull"),
        summary="Create a listener",
        description=(
            "It gets what is stored from now on. The answer is the only one that shows its signing secret. One in the "
            "mode `pull` has neither that nor URLs."
        ),
        example={
            "alias": "billing",
            "notify_url": "https://example.com/notify",
            "liveness_url": "https://example.com/live",
        },
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/listeners/{listener_id}",
        handler=get,
        response=wire.Listener,
        needs=_READ,
        statuses=(404,),
        summary="Get a listener",
    ),
    Route(
        methods=("PUT",),
        path="/queues/{queue_id}/listeners/{listener_id}",
        handler=change,
        request=bodies.ListenerBody,
        response=wire.Listener,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change a listener",
        description="A disabled listener keeps its place: its messages wait.",
        example={"status": "disabled"},
    ),
    Route(
        methods=("DELETE",),
        path="/queues/{queue_id}/listeners/{listener_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a listener",
    ),
)

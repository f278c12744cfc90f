"""`/api_keys`."""

from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from discue.api import bodies, wire
from discue.api.fields import Given, names_changed, names_given, status_of
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import api_keys
from discue.control.api_keys import CreatedKey, KeyFields
from discue.domain import api_key as key_text
from discue.domain import model
from discue.domain.scopes import Scopes, parse_scopes, render_scopes

_REMEMBERED = 1_024

_READ = Needs("api_keys", "read")
_LIST = Needs("api_keys", "read", listing=True)
_WRITE = Needs("api_keys", "write")


async def create(call: Call) -> wire.ApiKey:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: api_keys.create(control, call.principal, fields),
        lambda made: _answer(call, made.key, shown_created(made), f"{call.url}/{made.key.public_id}"),
    )


async def get(call: Call) -> wire.ApiKey:
    found = await api_keys.get(call.control, call.principal, call.ids[0])
    return _answer(call, found, _shown(found), call.url)


async def list_all(call: Call) -> wire.ApiKeys:
    items, links = await paged(
        call,
        lambda selection: api_keys.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.alias, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.ApiKeys(api_keys=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.ApiKey:
    public_id = call.ids[0]
    fields = _fields(call.body, names_changed(call.body, public_id))
    changed = await api_keys.change(call.control, call.principal, public_id, fields)
    return _answer(call, changed, _shown(changed), call.url)


async def delete(call: Call) -> wire.Deleted:
    await api_keys.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


def _answer(call: Call, key: model.ApiKey, shown: wire.ApiKeyShown, url: str) -> wire.ApiKey:
    return call.with_etag(key, wire.ApiKey(api_key=shown, links=link_to(url)))


def _fields(body: bodies.ApiKeyBody, given: Given) -> KeyFields:
    status = status_of(body.status)
    return KeyFields(given.alias, given.name, status, _scopes(body.scopes), body.expires_at)


def _scopes(sent: object) -> Scopes | UnsetType:
    return UNSET if sent is UNSET else parse_scopes(sent)


def shown_created(created: CreatedKey) -> wire.ApiKeyShown:
    """A key as it is shown once: whole."""
    return _shown(created.key, created.text)


def _shown(key: model.ApiKey, text: str | None = None) -> wire.ApiKeyShown:
    return wire.ApiKeyShown(
        id=key.public_id,
        alias=key.alias,
        name=key.alias,
        status=key.status,
        key=key_text.visible_prefix(key.public_id) if text is None else text,
        scopes=_shown_scopes(key.scopes),
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        created_at=key.created_at,
        updated_at=key.updated_at,
    )


@lru_cache(_REMEMBERED)
def _shown_scopes(stored: str) -> dict[str, dict[str, object]]:
    return render_scopes(parse_scopes(msgspec.json.decode(stored)))


ROUTES = (
    Route(
        methods=("GET",),
        path="/api_keys",
        handler=list_all,
        response=wire.ApiKeys,
        needs=_LIST,
        query=PAGES,
        summary="List API keys",
    ),
    Route(
        methods=CREATE,
        path="/api_keys",
        handler=create,
        request=bodies.ApiKeyBody,
        response=wire.ApiKey,
        needs=_WRITE,
        statuses=(422,),
        summary="Create an API key",
        description="The answer is the only one that shows the whole key.",
        example={"alias": "billing-reader", "scopes": {"messages": {"access": "read"}}},
    ),
    Route(
        methods=("GET",),
        path="/api_keys/{api_key_id}",
        handler=get,
        response=wire.ApiKey,
        needs=_READ,
        statuses=(404,),
        summary="Get an API key",
    ),
    Route(
        methods=("PUT",),
        path="/api_keys/{api_key_id}",
        handler=change,
        request=bodies.ApiKeyBody,
        response=wire.ApiKey,
        needs=_WRITE,
        statuses=(404, 409, 422),
        summary="Change an API key",
        description="`scopes` replaces the whole map.",
        example={"status": "disabled"},
    ),
    Route(
        methods=("DELETE",),
        path="/api_keys/{api_key_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404, 409),
        summary="Delete an API key",
    ),
)

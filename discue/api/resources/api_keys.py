"""`/api_keys`."""

from typing import Annotated, Any, ClassVar, Final, Self

from msgspec import UNSET
from msgspec.structs import replace

from discue.api.resource import ResourceKind, fields_of, view_of
from discue.api.route import Call, Needs
from discue.api.structs import (
    STATUS,
    Integer,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
    status_given,
)
from discue.control import api_keys
from discue.control.api_keys import KeyFields
from discue.domain import model
from discue.domain.api_key import visible_prefix
from discue.domain.scopes import PROTECTED, RESOURCES, TARGETS_LIMIT, parse_scopes, render_scopes

_TARGET: Final = r"\*|[0-9A-Za-z_-]{1,64}"
_TARGETS: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "pattern": rf"^(?:{_TARGET})?$"},
        {"type": "array", "items": {"type": "string", "pattern": rf"^(?:{_TARGET})$"}, "maxItems": TARGETS_LIMIT},
    ]
}
_ACCESS: Final = {"type": "string", "enum": ["read", "write"]}
_RESOURCE: Final = {"type": "string", "enum": list(RESOURCES)}
_SCOPE: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"access": {**_ACCESS, "default": "write"}, "targets": _TARGETS},
}
_SCOPE_ITEM: Final[dict[str, Any]] = {
    **_SCOPE,
    "required": ["resource"],
    "properties": {"resource": _RESOURCE, **_SCOPE["properties"]},
}
_SCOPE_SHOWN: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["access", "targets"],
    "properties": {"access": _ACCESS, "targets": {"type": "array", "items": {"type": "string"}}},
}
_SCOPES_TEXT: Final = (
    "Permissions: a map from resource to `access` (`write` includes `read`) and `targets` (ids; all if empty or `*`)."
)
_EXPIRES_TEXT: Final = "When the key expires; 0: never"


@read_only("key", "last_used_at")
class ApiKeyBody(NamedBody, kw_only=True):
    """An API key to create, or the changes to one."""

    sample: ClassVar = {"alias": "billing-reader", "scopes": {"messages": {"access": "read"}}}

    status: Annotated[Text, STATUS] = UNSET
    scopes: Annotated[
        Any,
        doc(
            f"{_SCOPES_TEXT} Older clients send a list. Not available through the API: {', '.join(sorted(PROTECTED))}.",
            {"messages": {"access": "read"}},
            anyOf=[
                {"type": "object", "propertyNames": _RESOURCE, "additionalProperties": _SCOPE},
                {"type": "array", "items": _SCOPE_ITEM},
            ],
        ),
    ] = UNSET
    expires_at: Annotated[Integer, instant_doc(_EXPIRES_TEXT, 1_893_456_000_000)] = UNSET


class ApiKeyView(View, kw_only=True, frozen=True):
    """An API key."""

    id: Annotated[str, id_doc("api_key_id")]
    status: Annotated[str, STATUS]
    key: Annotated[
        str,
        doc(
            "The key: complete in the response to its creation, later only its first characters.",
            "dsk_0VbuJFSC00bYtW1nQhRk7",
            pattern="^dsk_[!-~]+$",
        ),
    ]
    scopes: Annotated[
        dict[str, dict[str, object]],
        doc(
            _SCOPES_TEXT,
            {"messages": {"access": "read", "targets": []}},
            propertyNames=_RESOURCE,
            additionalProperties=_SCOPE_SHOWN,
        ),
    ]
    last_used_at: Annotated[int, instant_doc("When the key was last used; 0: never", 0)]
    expires_at: Annotated[int, instant_doc(_EXPIRES_TEXT, 0)]

    def without_secrets(self) -> Self:
        return replace(self, key=visible_prefix(self.id))


def _fields(call: Call) -> KeyFields:
    body: ApiKeyBody = call.body
    scopes = UNSET if body.scopes is UNSET else parse_scopes(body.scopes)
    return fields_of(call, KeyFields, status=status_given(body.status), scopes=scopes)


def key_view(key: model.ApiKey, text: str | None = None) -> ApiKeyView:
    """Return what clients see of a key: of a new one its complete `text`, later only its first characters."""
    shown = visible_prefix(key.public_id) if text is None else text
    return view_of(ApiKeyView, key, key=shown, scopes=render_scopes(api_keys.scopes_of(key.scopes)))


_KEYS: Final = ResourceKind[model.ApiKey](
    path="/api_keys",
    name="api_key",
    noun="API key",
    view_type=ApiKeyView,
    view=lambda _, key: key_view(key),
    needs=Needs.of("api_keys"),
    body=ApiKeyBody,
    fields=_fields,
    codes=("alias_taken", "scope_exceeded", "scope_protected"),
)

ROUTES = (
    _KEYS.list_route(api_keys.page, "List API keys."),
    _KEYS.create_route(
        api_keys.create,
        "Create an API key. Only this response shows the complete key.",
        "quota_exceeded",
        respond=lambda call, made: _KEYS.one(call, made.key, key=made.text),
    ),
    _KEYS.get_route(api_keys.get, "Get an API key."),
    _KEYS.change_route(
        api_keys.change,
        "Change an API key. `scopes` replaces all scopes of the key.",
        "last_admin_key",
        example={"status": "disabled"},
    ),
    _KEYS.delete_route(api_keys.delete, "Delete an API key.", "last_admin_key"),
)

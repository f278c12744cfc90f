"""`/organizations`, and its older name `/api_clients`."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import RetrySent, RetryShown, retry_given, retry_view
from discue.api.resource import ResourceKind, fields_of, view_of
from discue.api.resources.api_keys import ApiKeyView, key_view
from discue.api.route import Call, Needs, Route
from discue.api.structs import (
    ApiResponse,
    Flag,
    Integer,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    read_only,
)
from discue.control import organizations
from discue.control.organizations import HIGHEST_RATE, LONGEST_RETENTION_SECONDS, NewOrganization, OrganizationFields
from discue.domain import model, quotas

_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN_NAME: Final = {"pattern": rf"^{_LABEL}(?:\.{_LABEL})+(?:/[A-Za-z0-9._-]+)?$", "minLength": 4, "maxLength": 253}
_RATE_LIMIT: Final = doc(
    "Requests per minute of each API key; all keys together can make four times as many. 0: unlimited. Set by the "
    "operator.",
    60_000,
    minimum=0,
    maximum=HIGHEST_RATE,
)
_VERIFIED_DOMAINS: Final = doc(
    "Whether listeners must be on domains of the organization, and receive nothing until these are verified.", False
)
_KNOWN_TYPES: Final = doc(
    "Whether each message must have one of the organization's event types and fit its schema. Others get a 422.", False
)
_RETENTION: Final = doc(
    "How long messages are kept in queues without a retention of their own, in seconds. Set by the operator.",
    604_800,
    minimum=0,
    maximum=LONGEST_RETENTION_SECONDS,
)
_QUOTAS: Final = doc("Quotas of the organization. Set by the operator.")


def _quota_doc(description: str, example: int, name: quotas.QuotaName) -> msgspec.Meta:
    return doc(description, example, minimum=0, maximum=quotas.HIGHEST[name])


_PORTAL_SESSIONS: Final = _quota_doc("Maximum number of portal sessions.", 10_000, "portal_sessions")
_CREATIONS_A_DAY: Final = _quota_doc("Maximum number of resources created per day (UTC).", 100_000, "creations_a_day")
_MESSAGES_A_DAY: Final = _quota_doc("Maximum number of messages published per day (UTC).", 1_000_000, "messages_a_day")
_BYTES_STORED: Final = _quota_doc(
    "Maximum size of all messages, schedules and stored responses, in bytes.", 10_737_418_240, "bytes_stored"
)


class QuotasBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Quotas of an organization. null restores the setting."""

    queues: Annotated[Integer, _quota_doc("Maximum number of queues.", 100, "queues")] = UNSET
    listeners: Annotated[Integer, _quota_doc("Maximum number of listeners.", 1_000, "listeners")] = UNSET
    topics: Annotated[Integer, _quota_doc("Maximum number of topics.", 1_000, "topics")] = UNSET
    domains: Annotated[Integer, _quota_doc("Maximum number of domains.", 100, "domains")] = UNSET
    api_keys: Annotated[Integer, _quota_doc("Maximum number of API keys.", 1_000, "api_keys")] = UNSET
    users: Annotated[Integer, _quota_doc("Maximum number of users.", 1_000, "users")] = UNSET
    portal_sessions: Annotated[Integer, _PORTAL_SESSIONS] = UNSET
    creations_a_day: Annotated[Integer, _CREATIONS_A_DAY] = UNSET
    messages_a_day: Annotated[Integer, _MESSAGES_A_DAY] = UNSET
    bytes_stored: Annotated[Integer, _BYTES_STORED] = UNSET


@read_only("state")
class OrganizationBody(NamedBody, kw_only=True):
    """An organization to create, or the changes to one."""

    alias: Annotated[Text, doc("The unique name, a reverse domain name.", "com.example.dev", **_DOMAIN_NAME)] = UNSET
    name: Annotated[Text, doc("A synonym of `alias`.", "com.example.dev", **_DOMAIN_NAME)] = UNSET
    rate_limit: Annotated[Integer, _RATE_LIMIT] = UNSET
    quotas: Annotated[QuotasBody | None | UnsetType, _QUOTAS] = UNSET
    retention: Annotated[Integer, _RETENTION] = UNSET
    require_verified_domains: Annotated[Flag, _VERIFIED_DOMAINS] = UNSET
    require_known_types: Annotated[Flag, _KNOWN_TYPES] = UNSET
    retry: RetrySent = UNSET


class QuotasView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The quotas that were set for an organization."""

    queues: Annotated[int | UnsetType, doc("Maximum number of queues.", 100, minimum=0)] = UNSET
    listeners: Annotated[int | UnsetType, doc("Maximum number of listeners.", 1_000, minimum=0)] = UNSET
    topics: Annotated[int | UnsetType, doc("Maximum number of topics.", 1_000, minimum=0)] = UNSET
    domains: Annotated[int | UnsetType, doc("Maximum number of domains.", 100, minimum=0)] = UNSET
    api_keys: Annotated[int | UnsetType, doc("Maximum number of API keys.", 1_000, minimum=0)] = UNSET
    users: Annotated[int | UnsetType, doc("Maximum number of users.", 1_000, minimum=0)] = UNSET
    portal_sessions: Annotated[int | UnsetType, _PORTAL_SESSIONS] = UNSET
    creations_a_day: Annotated[int | UnsetType, _CREATIONS_A_DAY] = UNSET
    messages_a_day: Annotated[int | UnsetType, _MESSAGES_A_DAY] = UNSET
    bytes_stored: Annotated[int | UnsetType, _BYTES_STORED] = UNSET


class OrganizationView(View, kw_only=True, frozen=True):
    """An organization. Limits that were not set are omitted."""

    id: Annotated[str, id_doc("organization_id")]
    alias: Annotated[str, doc("The unique name. Default: `<creator's alias>.<id>`.", "com.example.dev", minLength=4)]
    name: Annotated[str, doc("A synonym of `alias`.", "com.example.dev", minLength=4)]
    state: Annotated[
        str, doc("Requests of a suspended organization get a 423.", "active", enum=["active", "suspended"])
    ]
    require_verified_domains: Annotated[bool, _VERIFIED_DOMAINS]
    require_known_types: Annotated[bool, _KNOWN_TYPES]
    rate_limit: Annotated[int | UnsetType, _RATE_LIMIT] = UNSET
    quotas: Annotated[QuotasView | UnsetType, _QUOTAS] = UNSET
    retention: Annotated[int | UnsetType, _RETENTION] = UNSET
    retry: RetryShown = UNSET


def _fields(call: Call) -> OrganizationFields:
    body: OrganizationBody = call.body
    limits: dict[quotas.QuotaName, int | None] | None = None if body.quotas is None else {}
    if isinstance(body.quotas, QuotasBody):
        sent = {name: getattr(body.quotas, name) for name in quotas.NAMES}
        limits = {name: limit for name, limit in sent.items() if limit is not UNSET}
    retry = retry_given(body.retry)
    return fields_of(call, OrganizationFields, quotas=limits, retention_seconds=body.retention, retry=retry)


def _view(organization: model.Organization) -> OrganizationView:
    settings = organization.settings
    limits = {name: settings[setting] for name in quotas.NAMES if (setting := quotas.setting_of(name)) in settings}
    return view_of(
        OrganizationView,
        organization,
        rate_limit=settings.get("rate_limit", UNSET),
        quotas=QuotasView(**limits) if limits else UNSET,
        retention=settings.get("retention_seconds", UNSET),
        require_verified_domains=bool(settings.get("require_verified_domains")),
        require_known_types=bool(settings.get("require_known_types")),
        retry=retry_view(organization.retry),
    )


def _routes(path: str, name: str) -> tuple[Route, ...]:
    """Return the routes for one of the two names of organizations. Older clients know only one of them."""
    kind = ResourceKind[model.Organization](
        path=path,
        name=name,
        noun="organization",
        id_name="organization_id",
        view_type=OrganizationView,
        view=lambda _, organization: _view(organization),
        needs=Needs.of("api_clients"),
        body=OrganizationBody,
        fields=_fields,
        codes=("operator_only", "alias_taken"),
    )
    new_response: Any = msgspec.defstruct(
        f"Created{kind.response.__name__}",
        [("api_key", Annotated[ApiKeyView, doc("The API key.")])],
        bases=(kind.response,),
        namespace={"__doc__": "The organization that was created, and its first API key."},
        kw_only=True,
        frozen=True,
    )

    def with_key(call: Call, made: NewOrganization) -> ApiResponse:
        shown, key = kind.one(call, made.organization), key_view(made.first_key.key, made.first_key.text)
        created: ApiResponse = new_response(**{name: getattr(shown, name)}, links=shown.links, api_key=key)
        return created

    return (
        kind.list_route(
            organizations.page,
            "List organizations. A key of the operator's organization sees all organizations, other keys only their "
            "own.",
        ),
        kind.create_route(
            organizations.create,
            "Create an organization. Only this response shows the organization's first API key. A key of the "
            "operator's organization can create any, other keys those below their own organization, as many as the "
            "operator allows.",
            "quota_exceeded",
            response=new_response,
            respond=with_key,
            example={"alias": "com.example.dev"},
        ),
        kind.get_route(organizations.get, "Get an organization."),
        kind.change_route(
            organizations.change,
            "Change an organization.",
            *("has_organizations", "follows_founder"),
            example={"alias": "com.example.stage"},
        ),
        kind.delete_route(
            organizations.delete,
            "Delete an organization. Also deletes everything in it.",
            *("operator_organization", "has_organizations"),
        ),
    )


ROUTES = (*_routes("/api_clients", "api_client"), *_routes("/organizations", "organization"))

"""`/api_clients` and `/organizations`: one resource under two names."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import UNSET, UnsetType

from discue.api import bodies, wire
from discue.api.fields import Given, names_changed, names_given
from discue.api.idempotency import created
from discue.api.links import Links, LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.resources.api_keys import shown_created
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import organizations
from discue.control.organizations import NewOrganization, OrganizationFields
from discue.domain import model
from discue.domain import quotas as quota

_READ = Needs("api_clients", "read")
_LIST = Needs("api_clients", "read", listing=True)
_WRITE = Needs("api_clients", "write")

Created = TypeVar("Created", wire.CreatedApiClient, wire.CreatedOrganization)


async def create_api_client(call: Call) -> wire.CreatedApiClient:
    def answer(shown: wire.OrganizationShown, key: wire.ApiKeyShown, links: Links) -> wire.CreatedApiClient:
        return wire.CreatedApiClient(api_client=shown, api_key=key, links=links)

    return await _create(call, answer)


async def create_organization(call: Call) -> wire.CreatedOrganization:
    def answer(shown: wire.OrganizationShown, key: wire.ApiKeyShown, links: Links) -> wire.CreatedOrganization:
        return wire.CreatedOrganization(organization=shown, api_key=key, links=links)

    return await _create(call, answer)


async def get_api_client(call: Call) -> wire.ApiClient:
    return wire.ApiClient(api_client=await _get(call), links=link_to(call.url))


async def get_organization(call: Call) -> wire.Organization:
    return wire.Organization(organization=await _get(call), links=link_to(call.url))


async def list_api_clients(call: Call) -> wire.ApiClients:
    shown, links = await _list(call)
    return wire.ApiClients(api_clients=shown, links=links)


async def list_organizations(call: Call) -> wire.Organizations:
    shown, links = await _list(call)
    return wire.Organizations(organizations=shown, links=links)


async def change_api_client(call: Call) -> wire.ApiClient:
    return wire.ApiClient(api_client=await _change(call), links=link_to(call.url))


async def change_organization(call: Call) -> wire.Organization:
    return wire.Organization(organization=await _change(call), links=link_to(call.url))


async def delete(call: Call) -> wire.Deleted:
    await organizations.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


async def _create(call: Call, answer: Callable[[wire.OrganizationShown, wire.ApiKeyShown, Links], Created]) -> Created:
    fields = _fields(call.body, names_given(call.body))

    def shown(made: NewOrganization) -> Created:
        links = link_to(f"{call.url}/{made.organization.public_id}")
        return answer(_shown_single(call, made.organization), shown_created(made.first_key), links)

    return await created(call, lambda control: organizations.create(control, call.principal, fields), shown)


async def _get(call: Call) -> wire.OrganizationShown:
    return _shown_single(call, await organizations.get(call.control, call.principal, call.ids[0]))


async def _list(call: Call) -> tuple[list[wire.OrganizationShown], Links]:
    items, links = await paged(
        call,
        lambda selection: organizations.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.alias, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return [_shown(item) for item in items], links


async def _change(call: Call) -> wire.OrganizationShown:
    public_id = call.ids[0]
    fields = _fields(call.body, names_changed(call.body, public_id))
    return _shown_single(call, await organizations.change(call.control, call.principal, public_id, fields))


def _fields(body: bodies.OrganizationBody, given: Given) -> OrganizationFields:
    return OrganizationFields(
        given.alias,
        given.name,
        body.rate_limit,
        body.require_verified_domains,
        _quotas(body.quotas),
        body.retention,
    )


def _quotas(body: bodies.QuotasBody | None | UnsetType) -> dict[quota.QuotaName, int | None] | None:
    if body is None or isinstance(body, UnsetType):
        return None if body is None else {}
    sent = {name: getattr(body, name) for name in quota.NAMES}
    return {name: most for name, most in sent.items() if most is not UNSET}


def _quotas_shown(settings: Mapping[str, int | bool]) -> wire.QuotasShown | UnsetType:
    own = {name: settings[setting] for name in quota.NAMES if (setting := quota.setting_of(name)) in settings}
    return wire.QuotasShown(**own) if own else UNSET


def _shown_single(call: Call, organization: model.Organization) -> wire.OrganizationShown:
    return call.with_etag(organization, _shown(organization))


def _shown(organization: model.Organization) -> wire.OrganizationShown:
    return wire.OrganizationShown(
        id=organization.public_id,
        alias=organization.alias,
        name=organization.alias,
        state=organization.state,
        rate_limit=organization.settings.get("rate_limit", UNSET),
        quotas=_quotas_shown(organization.settings),
        retention=organization.settings.get("retention_seconds", UNSET),
        require_verified_domains=bool(organization.settings.get("require_verified_domains")),
        created_at=organization.created_at,
        updated_at=organization.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/api_clients",
        handler=list_api_clients,
        response=wire.ApiClients,
        needs=_LIST,
        query=PAGES,
        summary="List organizations",
        description="A key of the operator's organization sees all, any other only its own.",
    ),
    Route(
        methods=CREATE,
        path="/api_clients",
        handler=create_api_client,
        request=bodies.OrganizationBody,
        response=wire.CreatedApiClient,
        needs=_WRITE,
        statuses=(422,),
        summary="Create an organization",
        description="The answer is the only one that shows the organization's first API key.",
        example={"alias": "com.example.dev"},
    ),
    Route(
        methods=("GET",),
        path="/api_clients/{organization_id}",
        handler=get_api_client,
        response=wire.ApiClient,
        needs=_READ,
        statuses=(404,),
        summary="Get an organization",
    ),
    Route(
        methods=("PUT",),
        path="/api_clients/{organization_id}",
        handler=change_api_client,
        request=bodies.OrganizationBody,
        response=wire.ApiClient,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change an organization",
        example={"alias": "com.example.stage"},
    ),
    Route(
        methods=("DELETE",),
        path="/api_clients/{organization_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404, 409),
        summary="Delete an organization",
        description="All that is in it goes with it.",
    ),
    Route(
        methods=("GET",),
        path="/organizations",
        handler=list_organizations,
        response=wire.Organizations,
        needs=_LIST,
        query=PAGES,
        summary="List organizations",
        description="A key of the operator's organization sees all, any other only its own.",
    ),
    Route(
        methods=CREATE,
        path="/organizations",
        handler=create_organization,
        request=bodies.OrganizationBody,
        response=wire.CreatedOrganization,
        needs=_WRITE,
        statuses=(422,),
        summary="Create an organization",
        description="The answer is the only one that shows the organization's first API key.",
        example={"alias": "com.example.dev"},
    ),
    Route(
        methods=("GET",),
        path="/organizations/{organization_id}",
        handler=get_organization,
        response=wire.Organization,
        needs=_READ,
        statuses=(404,),
        summary="Get an organization",
    ),
    Route(
        methods=("PUT",),
        path="/organizations/{organization_id}",
        handler=change_organization,
        request=bodies.OrganizationBody,
        response=wire.Organization,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change an organization",
        example={"alias": "com.example.stage"},
    ),
    Route(
        methods=("DELETE",),
        path="/organizations/{organization_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404, 409),
        summary="Delete an organization",
        description="All that is in it goes with it.",
    ),
)

"""Organizations, with their quotas."""

from typing import Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.wire.answer import Answer, Shown
from discue.api.wire.api_keys import ApiKeyShown


class QuotasShown(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Those that the organization has of its own."""

    queues: int | UnsetType = UNSET
    listeners: int | UnsetType = UNSET
    messages_a_day: int | UnsetType = UNSET
    bytes_stored: int | UnsetType = UNSET


class OrganizationShown(Shown, kw_only=True, frozen=True):
    """`rate_limit` (requests a minute), `quotas` and `retention` (seconds) are there when they were set."""

    state: str
    require_verified_domains: bool
    rate_limit: int | UnsetType = UNSET
    quotas: QuotasShown | UnsetType = UNSET
    retention: int | UnsetType = UNSET


class ApiClient(Answer, kw_only=True, frozen=True):
    api_client: OrganizationShown


class CreatedApiClient(ApiClient, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class ApiClients(Answer, kw_only=True, frozen=True):
    api_clients: list[OrganizationShown]


class Organization(Answer, kw_only=True, frozen=True):
    organization: OrganizationShown


class CreatedOrganization(Organization, kw_only=True, frozen=True):
    api_key: ApiKeyShown

    def without_secrets(self) -> Self:
        return replace(self, api_key=self.api_key.without_secrets())


class Organizations(Answer, kw_only=True, frozen=True):
    organizations: list[OrganizationShown]

"""`/limits`: what a key and its organization may come to, and what they have used."""

from discue.api import wire
from discue.api.links import link_to
from discue.api.pagination import LARGEST_PAGE
from discue.api.resources.messages import BATCH_BYTES, BATCH_MESSAGES
from discue.api.route import Call, Needs, Route
from discue.config.settings import Settings
from discue.control import usage
from discue.control.usage import QuotaUse
from discue.domain import quotas as quota
from discue.domain.model import Organization
from discue.domain.rate import RateLimitKey, RateLimitStatus
from discue.domain.scopes import Principal


def rate_of(organization: Organization, principal: Principal, settings: Settings) -> RateLimitKey:
    """A key as one whose requests are counted."""
    limit = organization.settings.get("rate_limit", settings.rate_limit)
    return RateLimitKey(principal.organization, principal.key, limit)


async def get(call: Call) -> wire.Limits:
    settings = call.control.settings
    use = await usage.used_quotas(call.control, call.principal)
    allowance = call.services.rates.look(rate_of(use.organization, call.principal, settings))
    shown = wire.LimitsShown(
        rate_limit=_rate(allowance),
        quotas=_quotas(use),
        retention=use.organization.settings.get("retention_seconds", settings.retention_seconds),
        max_message_bytes=settings.max_message_bytes,
        max_batch_messages=BATCH_MESSAGES,
        max_batch_bytes=BATCH_BYTES,
        max_per_page=LARGEST_PAGE,
    )
    return wire.Limits(limits=shown, links=link_to(call.url))


def _rate(allowance: RateLimitStatus) -> wire.RateShown:
    return wire.RateShown(allowance.limit, allowance.remaining, allowance.reset_at * 1_000)


def _quotas(use: QuotaUse) -> wire.QuotasUsed:
    return wire.QuotasUsed(**{name: wire.QuotaShown(getattr(use.quotas, name), use.used[name]) for name in quota.NAMES})


ROUTES = (
    Route(
        methods=("GET",),
        path="/limits",
        handler=get,
        response=wire.Limits,
        needs=Needs("stats", "read"),
        summary="Get limits and what is used of them",
        description="The rate limit is the key's, the quotas are its organization's.",
    ),
)

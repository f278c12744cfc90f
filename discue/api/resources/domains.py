"""`/domains`."""

from functools import partial
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.route import CREATE, GET, PUT, Call, Needs, Route, deletion
from discue.api.structs import (
    ApiResponse,
    Integer,
    NamedBody,
    View,
    base_fields,
    doc,
    id_doc,
    instant_doc,
    links_of,
    read_only,
)
from discue.control import domains
from discue.control.domains import DomainFields
from discue.domain.domain_challenge import Domain
from discue.domain.reservations import PAGE, RESOURCE

_READ, _LIST, _WRITE = Needs.of("domains")

_HOSTNAME: Final = doc("A DNS name, not an IP address.", "shop.example.com", minLength=4, maxLength=253)
_PORT: Final = doc(
    "The port. Verified over http on port 80, else over https. Default: 443.",
    443,
    anyOf=[{"enum": [80, 443]}, {"type": "integer", "minimum": 1_024, "maximum": 65_535}],
)


@read_only("challenge", "verification")
class DomainBody(NamedBody, kw_only=True):
    """A domain to create, or the changes to one. `hostname` and `port` are fixed at creation."""

    example: ClassVar = {"alias": "shop", "hostname": "shop.example.com", "port": 443}

    hostname: Annotated[str | UnsetType, _HOSTNAME] = UNSET
    port: Annotated[Integer, _PORT] = UNSET


class HttpsChallengeView(msgspec.Struct, frozen=True):
    """The file that verifies a domain."""

    file_content: Annotated[str, doc("The content of the file.", "kVb2mXw0Q7tYc4RzLh9PdNfJ3sGa6Ue1Ki8ToBxCvWy")]
    file_name: Annotated[str, doc("The name of the file.", "Zr5uQk8wYx2LmNc7VtBd3Hf9JgPs4Ea6")]
    context_path: Annotated[
        str, doc("The path of the file, without leading and trailing slashes.", ".well-known/discue")
    ]
    created_at: Annotated[int, instant_doc("When it was created")]
    expires_at: Annotated[int, instant_doc("When it expires, unless the file was found before", 1_796_141_080_000)]


class ChallengeView(msgspec.Struct, frozen=True):
    """How to verify a domain."""

    https: Annotated[HttpsChallengeView, doc("A file at `/<context_path>/<file_name>` with exactly this content.")]


class VerificationView(msgspec.Struct, frozen=True):
    """The result of the last check of a domain."""

    verified: Annotated[bool, doc("Whether the domain is verified.", False)]
    verified_at: Annotated[int, instant_doc("When it was verified; 0: it is not", 0)]
    checked_at: Annotated[int, instant_doc("When it was last checked; 0: never", 0)]
    last_error: Annotated[str, doc("Why the last check failed; empty if it did not.", "")]


class DomainView(View, kw_only=True, frozen=True):
    """A domain."""

    id: Annotated[str, id_doc("domain_id")]
    hostname: Annotated[str, _HOSTNAME]
    port: Annotated[int, _PORT]
    challenge: Annotated[ChallengeView, doc("How to verify the domain.")]
    verification: Annotated[VerificationView, doc("Whether it is verified.")]


class DomainResponse(ApiResponse, kw_only=True, frozen=True):
    domain: Annotated[DomainView, doc("The domain.")]


class DomainsResponse(ApiResponse, kw_only=True, frozen=True):
    domains: Annotated[list[DomainView], doc("The domains, newest first.")]


async def create(call: Call) -> DomainResponse:
    """Create a domain. The response names the file that verifies the domain, and its content."""
    return await created(call, lambda control: domains.create(control, call.principal, _fields(call)), _response)


async def get(call: Call) -> DomainResponse:
    """Get a domain."""
    return _response(call, await domains.get(call.control, call.principal, call.ids[0]))


async def list_all(call: Call) -> DomainsResponse:
    """List domains."""
    return await paged(call, DomainsResponse, partial(domains.page, call.control, call.principal), _view)


async def change(call: Call) -> DomainResponse:
    """Change a domain. Its hostname and port cannot change. Renews an expired challenge."""
    return _response(call, await domains.change(call.control, call.principal, call.ids[0], _fields(call)))


async def verify(call: Call) -> DomainResponse:
    """Verify a domain now. Checks the file, and returns the domain with the result.

    Raises TooManyRequests while too many domains of the organization are being verified.
    """
    public_id = call.ids[0]
    domain = await domains.verify(call.control, call.principal, public_id, call.services.domain_checks)
    return _response(call, domain, f"{call.base}/domains/{public_id}")


def _fields(call: Call) -> DomainFields:
    return DomainFields(*call.names(), call.body.hostname, call.body.port)


def _response(call: Call, domain: Domain, url: str | None = None) -> DomainResponse:
    links = links_of(url) if url else call.links(domain.public_id)
    return call.with_etag(domain, DomainResponse(domain=_view(domain), links=links))


def _view(domain: Domain) -> DomainView:
    return DomainView(
        **base_fields(domain),
        hostname=domain.hostname,
        port=domain.port,
        challenge=ChallengeView(msgspec.convert(domain.challenge, HttpsChallengeView, from_attributes=True)),
        verification=msgspec.convert(domain.verification, VerificationView, from_attributes=True),
    )


ROUTES = (
    Route(GET, "/domains", list_all, _LIST, query=PAGES, reads=PAGE),
    Route(
        CREATE,
        "/domains",
        create,
        _WRITE,
        DomainBody,
        codes=("quota_exceeded", "alias_taken"),
        required=("hostname",),
        reads=RESOURCE,
    ),
    Route(GET, "/domains/{domain_id}", get, _READ, reads=RESOURCE),
    Route(
        PUT,
        "/domains/{domain_id}",
        change,
        _WRITE,
        DomainBody,
        codes=("alias_taken", "immutable_field"),
        example={"alias": "store"},
        reads=RESOURCE,
    ),
    Route(PUT, "/domains/{domain_id}/verification", verify, _WRITE, reads=RESOURCE),
    deletion(
        "/domains/{domain_id}",
        domains.delete,
        _WRITE,
        "Delete a domain. Listeners on it are no longer on a verified domain.",
    ),
)

"""`/domains`."""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.idempotency import created
from discue.api.pagination import PAGES, paged
from discue.api.route import CREATE, DELETE, GET, PUT, Call, Needs, Route
from discue.api.structs import (
    NOT_SENT,
    ApiResponse,
    DeletedResponse,
    GivenNames,
    Ignored,
    Integer,
    NamedBody,
    View,
    base_fields,
    doc,
    instant_doc,
    link_to,
    names_changed,
    names_given,
    own_id_doc,
)
from discue.control import domains
from discue.control.domains import DomainFields
from discue.domain.domain_challenge import Domain

_READ = Needs("domains", "read")
_LIST = Needs("domains", "read", listing=True)
_WRITE = Needs("domains", "write")

_HOSTNAME: Final = doc("A DNS name, not an IP address.", "shop.example.com", minLength=4, maxLength=253)
_PORT: Final = doc(
    "The port. Verified over http on port 80, else over https. Default: 443.",
    443,
    anyOf=[{"enum": [80, 443]}, {"type": "integer", "minimum": 1_024, "maximum": 65_535}],
)


class DomainBody(NamedBody, kw_only=True):
    """A domain to create, or the changes to one. `hostname` and `port` are fixed at creation."""

    hostname: Annotated[str | UnsetType, _HOSTNAME] = UNSET
    port: Annotated[Integer, _PORT] = UNSET
    challenge: Ignored = NOT_SENT
    verification: Ignored = NOT_SENT


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

    id: Annotated[str, own_id_doc("domain_id")]
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
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: domains.create(control, call.principal, fields),
        lambda made: _response(call, made, f"{call.url}/{made.public_id}"),
    )


async def get(call: Call) -> DomainResponse:
    """Get a domain."""
    return _response(call, await domains.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> DomainsResponse:
    """List domains."""
    items, links = await paged(
        call,
        lambda selection: domains.page(call.control, call.principal, selection),
        lambda item: call.item(item.alias, item.public_id),
    )
    return DomainsResponse(domains=[_view(item) for item in items], links=links)


async def change(call: Call) -> DomainResponse:
    """Change a domain. Its hostname and port cannot change. Renews an expired challenge."""
    public_id = call.ids[0]
    fields = _fields(call.body, names_changed(call.body, public_id))
    return _response(call, await domains.change(call.control, call.principal, public_id, fields), call.url)


async def verify(call: Call) -> DomainResponse:
    """Verify a domain now. Checks the file, and returns the domain with the result.

    Raises TooManyRequests while too many domains of the organization are being verified.
    """
    public_id = call.ids[0]
    domain = await domains.verify(call.control, call.principal, public_id, call.services.domain_checks)
    return _response(call, domain, f"{call.base}/domains/{public_id}")


async def delete(call: Call) -> DeletedResponse:
    """Delete a domain. Listeners on it are no longer on a verified domain."""
    await domains.delete(call.control, call.principal, call.ids[0])
    return DeletedResponse(links=link_to(call.url))


def _fields(body: DomainBody, given: GivenNames) -> DomainFields:
    return DomainFields(given.alias, given.name, body.hostname, body.port)


def _response(call: Call, domain: Domain, url: str) -> DomainResponse:
    return call.with_etag(domain, DomainResponse(domain=_view(domain), links=link_to(url)))


def _view(domain: Domain) -> DomainView:
    challenge, verification = domain.challenge, domain.verification
    return DomainView(
        **base_fields(domain),
        hostname=domain.hostname,
        port=domain.port,
        challenge=ChallengeView(
            HttpsChallengeView(
                challenge.file_content,
                challenge.file_name,
                challenge.context_path,
                challenge.created_at,
                challenge.expires_at,
            )
        ),
        verification=VerificationView(
            verification.verified, verification.verified_at, verification.checked_at, verification.last_error
        ),
    )


ROUTES = (
    Route(GET, "/domains", list_all, _LIST, query=PAGES),
    Route(
        CREATE,
        "/domains",
        create,
        _WRITE,
        DomainBody,
        required=("hostname",),
        example={"alias": "shop", "hostname": "shop.example.com", "port": 443},
    ),
    Route(GET, "/domains/{domain_id}", get, _READ),
    Route(PUT, "/domains/{domain_id}", change, _WRITE, DomainBody, example={"alias": "store"}),
    Route(PUT, "/domains/{domain_id}/verification", verify, _WRITE, statuses=(429,)),
    Route(DELETE, "/domains/{domain_id}", delete, _WRITE),
)

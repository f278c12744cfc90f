"""`/domains`."""

from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.resource import ResourceKind, fields_of, links_of, view_of
from discue.api.route import PUT, Call, Needs, Route
from discue.api.structs import (
    ApiResponse,
    Integer,
    NamedBody,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
)
from discue.control import domains
from discue.control.domains import DomainFields
from discue.domain.domain_challenge import Domain
from discue.domain.reservations import RESOURCE

_HOSTNAME: Final = doc("A DNS name, not an IP address.", "shop.example.com", minLength=4, maxLength=253)
_PORT: Final = doc(
    "The port. Verified over http on port 80, else over https. Default: 443.",
    443,
    anyOf=[{"enum": [80, 443]}, {"type": "integer", "minimum": 1_024, "maximum": 65_535}],
)


@read_only("challenge", "verification")
class DomainBody(NamedBody, kw_only=True):
    """A domain to create, or the changes to one. `hostname` and `port` are fixed at creation."""

    sample: ClassVar = {"alias": "shop", "hostname": "shop.example.com", "port": 443}

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


def _view(domain: Domain) -> DomainView:
    challenge = ChallengeView(view_of(HttpsChallengeView, domain.challenge))
    return view_of(DomainView, domain, challenge=challenge, verification=view_of(VerificationView, domain.verification))


_DOMAINS: Final = ResourceKind[Domain](
    path="/domains",
    name="domain",
    view_type=DomainView,
    view=lambda _, domain: _view(domain),
    needs=Needs.of("domains"),
    body=DomainBody,
    fields=lambda call: fields_of(call, DomainFields),
    codes=("alias_taken",),
)


async def verify(call: Call) -> ApiResponse:
    """Verify a domain now. Checks the file, and returns the domain with the result.

    Raises TooManyRequests while too many domains of the organization are being verified.
    """
    domain = await domains.verify(call.control, call.principal, call.ids[0], call.services.domain_checks)
    return replace(_DOMAINS.one(call, domain), links=links_of(f"{call.base}/domains/{call.ids[0]}"))


ROUTES = (
    _DOMAINS.list_route(domains.page, "List domains."),
    _DOMAINS.create_route(
        domains.create,
        "Create a domain. The response names the file that verifies the domain, and its content.",
        "quota_exceeded",
        required=("hostname",),
    ),
    _DOMAINS.get_route(domains.get, "Get a domain."),
    _DOMAINS.change_route(
        domains.change,
        "Change a domain. Its hostname and port cannot change. Renews an expired challenge.",
        "immutable_field",
        example={"alias": "store"},
    ),
    Route(
        PUT,
        f"{_DOMAINS.item}/verification",
        verify,
        Needs("domains", "write"),
        response=_DOMAINS.response,
        reads=RESOURCE,
    ),
    _DOMAINS.delete_route(domains.delete, "Delete a domain. Listeners on it are no longer on a verified domain."),
)

"""`/domains`."""

from discue.api import bodies, wire
from discue.api.fields import Given, names_changed, names_given
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import domains
from discue.control.domains import DomainFields
from discue.domain.domain_challenge import Domain

_READ = Needs("domains", "read")
_LIST = Needs("domains", "read", listing=True)
_WRITE = Needs("domains", "write")


async def create(call: Call) -> wire.Domain:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: domains.create(control, call.principal, fields),
        lambda made: _answer(call, made, f"{call.url}/{made.public_id}"),
    )


async def get(call: Call) -> wire.Domain:
    return _answer(call, await domains.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> wire.Domains:
    items, links = await paged(
        call,
        lambda selection: domains.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.alias, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Domains(domains=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Domain:
    public_id = call.ids[0]
    fields = _fields(call.body, names_changed(call.body, public_id))
    return _answer(call, await domains.change(call.control, call.principal, public_id, fields), call.url)


async def verify(call: Call) -> wire.Domain:
    """Raises TooManyRequests while too many of the organization's domains are being verified."""
    public_id = call.ids[0]
    domain = await domains.verify(call.control, call.principal, public_id, call.services.domain_checks)
    return _answer(call, domain, f"{call.base}/domains/{public_id}")


async def delete(call: Call) -> wire.Deleted:
    await domains.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


def _fields(body: bodies.DomainBody, given: Given) -> DomainFields:
    return DomainFields(given.alias, given.name, body.hostname, body.port)


def _answer(call: Call, domain: Domain, url: str) -> wire.Domain:
    return call.with_etag(domain, wire.Domain(domain=_shown(domain), links=link_to(url)))


def _shown(domain: Domain) -> wire.DomainShown:
    challenge, verification = domain.challenge, domain.verification
    return wire.DomainShown(
        id=domain.public_id,
        alias=domain.alias,
        name=domain.alias,
        hostname=domain.hostname,
        port=domain.port,
        challenge=wire.ChallengeShown(
            wire.HttpsChallenge(
                challenge.file_content,
                challenge.file_name,
                challenge.context_path,
                challenge.created_at,
                challenge.expires_at,
            )
        ),
        verification=wire.VerificationShown(
            verification.verified, verification.verified_at, verification.checked_at, verification.last_error
        ),
        created_at=domain.created_at,
        updated_at=domain.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/domains",
        handler=list_all,
        response=wire.Domains,
        needs=_LIST,
        query=PAGES,
        summary="List domains",
    ),
    Route(
        methods=CREATE,
        path="/domains",
        handler=create,
        request=bodies.DomainBody,
        response=wire.Domain,
        needs=_WRITE,
        statuses=(422,),
        required=("hostname",),
        summary="Create a domain",
        description="The answer says which file must be found on it, and what it must hold.",
        example={"alias": "shop", "hostname": "shop.example.com", "port": 443},
    ),
    Route(
        methods=("GET",),
        path="/domains/{domain_id}",
        handler=get,
        response=wire.Domain,
        needs=_READ,
        statuses=(404,),
        summary="Get a domain",
    ),
    Route(
        methods=("PUT",),
        path="/domains/{domain_id}",
        handler=change,
        request=bodies.DomainBody,
        response=wire.Domain,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change a domain",
        description="Its hostname and port cannot be changed. A challenge that has expired is renewed.",
        example={"alias": "store"},
    ),
    Route(
        methods=("PUT",),
        path="/domains/{domain_id}/verification",
        handler=verify,
        response=wire.Domain,
        needs=_WRITE,
        statuses=(404, 429),
        summary="Verify a domain at once",
        description="Looks for the file, and answers with the domain as it is then, verified or not.",
    ),
    Route(
        methods=("DELETE",),
        path="/domains/{domain_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a domain",
        description="Nothing is verified by it any more.",
    ),
)

"""`/queues/{queue_id}/listeners/{listener_id}/secrets`."""

from typing import get_args

from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import listener_secrets
from discue.control.listener_secrets import LONGEST_OVERLAP_SECONDS, FreshSecret, SecretFields, ShownSecret
from discue.crypto.signing_secrets import SecretType
from discue.domain.errors import Fault, Unprocessable

_PATH = "/queues/{queue_id}/listeners/{listener_id}/secrets"
_READ = Needs("listeners", "read")
_WRITE = Needs("listeners", "write")
_TYPES: tuple[SecretType, ...] = get_args(SecretType)


async def create(call: Call) -> wire.Secret:
    fields = _fields(call.body)
    return await created(
        call,
        lambda control: listener_secrets.create(control, call.principal, _listener(call), fields),
        lambda made: _answer(call, made, f"{call.url}/{made.shown.id}"),
    )


async def list_all(call: Call) -> wire.Secrets:
    items, links = await paged(
        call,
        lambda selection: listener_secrets.page(call.control, call.principal, _listener(call), selection),
        lambda item: LinkTarget(item.id, item.id, f"{call.url}/{item.id}"),
    )
    return wire.Secrets(secrets=[_shown(item) for item in items], links=links)


async def get(call: Call) -> wire.Secret:
    shown = await listener_secrets.get(call.control, call.principal, _listener(call), call.ids[2])
    return _answer(call, FreshSecret(shown, ""), call.url)


async def delete(call: Call) -> wire.Deleted:
    await listener_secrets.delete(call.control, call.principal, _listener(call), call.ids[2])
    return wire.Deleted(links=link_to(call.url))


def _listener(call: Call) -> tuple[str, str]:
    return call.ids[0], call.ids[1]


def _fields(body: bodies.SecretBody) -> SecretFields:
    """Raises Unprocessable for an unknown type, and for an overlap that is too long."""
    given = SecretFields()
    kind, overlap = given.type, given.expire_previous_in
    if isinstance(body.type, str):
        known = next((each for each in _TYPES if each == body.type), None)
        if known is None:
            raise _unfit("type", "must be hmac or ed25519")
        kind = known
    if isinstance(body.expire_previous_in, int):
        overlap = body.expire_previous_in
        if not 0 <= overlap <= LONGEST_OVERLAP_SECONDS:
            raise _unfit("expire_previous_in", f"must be from 0 to {LONGEST_OVERLAP_SECONDS}")
    return SecretFields(kind, body.secret if isinstance(body.secret, str) else None, overlap)


def _unfit(field: str, rule: str) -> Unprocessable:
    return Unprocessable(f"The field {field} {rule}.", faults=(Fault(f"/{field}", rule),))


def _answer(call: Call, made: FreshSecret, url: str) -> wire.Secret:
    return call.with_etag(made.shown, wire.Secret(secret=_shown(made.shown, made.text), links=link_to(url)))


def _shown(secret: ShownSecret, text: str = "") -> wire.SecretShown:
    return wire.SecretShown(
        id=secret.id,
        type=secret.type,
        fingerprint=secret.fingerprint,
        created_at=secret.created_at,
        updated_at=secret.updated_at,
        expires_at=secret.expires_at,
        public_key=secret.public_key or UNSET,
        secret=text or UNSET,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path=_PATH,
        handler=list_all,
        response=wire.Secrets,
        needs=_READ,
        statuses=(404,),
        query=PAGES,
        summary="List a listener's signing secrets",
        description="Those that are valid, without the secrets themselves.",
    ),
    Route(
        methods=CREATE,
        path=_PATH,
        handler=create,
        request=bodies.SecretBody,
        response=wire.Secret,
        needs=_WRITE,
        statuses=(404, 409, 422),
        summary="Create a signing secret",
        description="Deliveries are signed with it from now on, and with the older ones of its type until these end. "
        "The answer is the only one that shows it; of a key pair, only the public key is ever shown.",
        example={"type": "hmac", "expire_previous_in": 3600},
    ),
    Route(
        methods=("GET",),
        path=_PATH + "/{secret_id}",
        handler=get,
        response=wire.Secret,
        needs=_READ,
        statuses=(404,),
        summary="Get a signing secret",
        description="Without the secret itself.",
    ),
    Route(
        methods=("DELETE",),
        path=_PATH + "/{secret_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404, 409),
        summary="End a signing secret",
        description="At once: nothing is signed with it any more.",
    ),
)

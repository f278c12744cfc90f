"""`/users`, and `/invitations`, which need no key."""

from functools import partial

from msgspec import UNSET, UnsetType

from discue.api import bodies, wire
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, Call, Needs, Route
from discue.control import users
from discue.control.users import UserDetails, UserFields
from discue.domain import model
from discue.domain.errors import NotFound, Unavailable

_READ = Needs("users", "read")
_LIST = Needs("users", "read", listing=True)
_WRITE = Needs("users", "write")


async def create(call: Call) -> wire.User:
    fields = _fields(call.body)
    return await created(
        call,
        lambda control: users.create(control, call.principal, fields),
        lambda made: _answer(call, made, f"{call.url}/{made.user.public_id}"),
    )


async def get(call: Call) -> wire.User:
    return _answer(call, UserDetails(await users.get(call.control, call.principal, call.ids[0])), call.url)


async def list_all(call: Call) -> wire.Users:
    items, links = await paged(
        call,
        lambda selection: users.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.email, item.public_id, f"{call.url}/{item.public_id}"),
    )
    return wire.Users(users=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.User:
    return _answer(call, await users.change(call.control, call.principal, call.ids[0], _fields(call.body)), call.url)


async def delete(call: Call) -> wire.Deleted:
    await users.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


async def accept(call: Call) -> wire.User:
    """What is wrong with a token is not said: a wrong one and an expired one are answered alike."""
    services, body = call.services, call.body
    if services.readiness.phase != "serving":
        raise Unavailable(f"The service is {services.readiness.phase}. Try again soon.")
    user = await services.authenticator.attempt(
        call.address, partial(users.accept, call.control, body.token, body.password)
    )
    if user is None:
        raise NotFound("There is no such invitation, or it is not valid any more.")
    return _answer(call, UserDetails(user), f"{call.base}/users/{user.public_id}")


def _fields(body: bodies.UserBody) -> UserFields:
    return UserFields(
        email=_given(body.email),
        display_name=body.display_name,
        role=_given(body.role),
        password=_given(body.password),
        invite=body.invite is True,
    )


def _given(sent: str | UnsetType) -> str | None:
    return None if isinstance(sent, UnsetType) else sent


def _answer(call: Call, details: UserDetails, url: str) -> wire.User:
    made = details.invitation
    shown: wire.InvitationShown | UnsetType = UNSET
    if made is not None:
        # A fragment is not sent to a server: it is in nobody's log.
        place = f"{call.base}/invitations#{made.token}"
        shown = wire.InvitationShown(expires_at=made.expires_at, url=place, token=made.token)
    answer = wire.User(user=_shown(details.user), links=link_to(url), invitation=shown)
    return call.with_etag(details.user, answer)


def _shown(user: model.User) -> wire.UserShown:
    return wire.UserShown(
        id=user.public_id,
        alias=user.email,
        name=user.email,
        email=user.email,
        display_name=user.display_name,
        role=user.role,
        state=user.state,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/users",
        handler=list_all,
        response=wire.Users,
        needs=_LIST,
        query=PAGES,
        summary="List users",
    ),
    Route(
        methods=CREATE,
        path="/users",
        handler=create,
        request=bodies.UserBody,
        response=wire.User,
        needs=_WRITE,
        statuses=(422,),
        required=("email", "role"),
        summary="Create a user",
        description="With a password, or with an invitation, which is in this answer alone.",
        example={"email": "ada@example.com", "display_name": "Ada", "role": "developer"},
    ),
    Route(
        methods=("GET",),
        path="/users/{user_id}",
        handler=get,
        response=wire.User,
        needs=_READ,
        statuses=(404,),
        summary="Get a user",
    ),
    Route(
        methods=("PUT",),
        path="/users/{user_id}",
        handler=change,
        request=bodies.UserBody,
        response=wire.User,
        needs=_WRITE,
        statuses=(404, 409, 422),
        summary="Change a user",
        description="A new password, or a new invitation, makes void whatever invitation there was.",
        example={"role": "viewer"},
    ),
    Route(
        methods=("DELETE",),
        path="/users/{user_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404, 409),
        summary="Delete a user",
    ),
    Route(
        methods=("POST",),
        path="/invitations",
        handler=accept,
        request=bodies.InvitationBody,
        response=wire.User,
        needs=None,
        statuses=(403, 404, 422, 423),
        summary="Accept an invitation",
        description="Sets the user's password. A token can be used once.",
        example={"token": "mJ3uV9aYc1RzK7wXq5LdT0nE2bGhP8sF", "password": "correct horse battery"},
    ),
)

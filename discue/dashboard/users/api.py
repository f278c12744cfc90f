"""`/users` and `/invitations`."""

from functools import partial
from typing import Annotated, ClassVar, Final, Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.resource import ResourceKind, links_of, view_of
from discue.api.route import POST, VERSION, Call, Needs, Route
from discue.api.structs import (
    ApiResponse,
    Body,
    ResourceBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
    text_given,
)
from discue.auth.authenticator import sign_in_subject
from discue.dashboard.users import users
from discue.dashboard.users.users import UserDetails, UserFields
from discue.domain import model
from discue.domain.errors import NotFound
from discue.domain.reservations import FEW_ROWS

_EMAIL_LIMITS: Final = {
    "minLength": 3,
    "maxLength": 254,
    "pattern": r"^[^\s\u0000-\u001f\u007f@]+@[^\s\u0000-\u001f\u007f@]+$",
}
_EMAIL: Final = doc("The email address, unique in the organization, ignoring case.", "ada@example.com", **_EMAIL_LIMITS)
_ALIAS: Final = doc("The email address.", "ada@example.com", **_EMAIL_LIMITS)
_DISPLAY_NAME: Final = doc("The name to show.", "Ada", maxLength=128, pattern=r"^[^\u0000-\u001f\u007f]*$")
_ROLE: Final = doc(
    "Permissions of the user in the dashboard.", "developer", enum=["owner", "admin", "developer", "viewer"]
)
_STATUS: Final = doc(
    "Whether the user may sign in. Disabling ends all sessions.", "enabled", enum=["enabled", "disabled"]
)
_PASSWORD: Final = doc(
    "The password, in NFC characters. Never shown.", "correct horse battery", minLength=8, maxLength=256
)
_TOKEN: Final = doc("The token that accepts the invitation.", "mJ3uV9aYc1RzK7wXq5LdT0nE2bGhP8sF")


@read_only("alias", "name", "state")
class UserBody(ResourceBody, kw_only=True):
    """A user to create, or the changes to one."""

    sample: ClassVar = {"email": "ada@example.com", "display_name": "Ada", "role": "developer"}

    email: Annotated[str | UnsetType, _EMAIL] = UNSET
    display_name: Annotated[Text, _DISPLAY_NAME] = UNSET
    role: Annotated[str | UnsetType, _ROLE] = UNSET
    status: Annotated[str | UnsetType, _STATUS] = UNSET
    password: Annotated[str | UnsetType, _PASSWORD] = UNSET
    invite: Annotated[
        bool | UnsetType, doc("Whether to create a new invitation. The previous one becomes invalid.", True)
    ] = UNSET


class InvitationBody(Body, kw_only=True):
    """The acceptance of an invitation."""

    sample: ClassVar = {"token": "mJ3uV9aYc1RzK7wXq5LdT0nE2bGhP8sF", "password": "correct horse battery"}

    token: Annotated[str, _TOKEN]
    password: Annotated[str, _PASSWORD]


class UserView(View, kw_only=True, frozen=True):
    """A user."""

    id: Annotated[str, id_doc("user_id")]
    alias: Annotated[str, _ALIAS]
    name: Annotated[str, _ALIAS]
    email: Annotated[str, _EMAIL]
    display_name: Annotated[str, _DISPLAY_NAME]
    role: Annotated[str, _ROLE]
    status: Annotated[str, _STATUS]
    state: Annotated[str, doc("`invited` until the user can sign in.", "invited", enum=["invited", "active"])]


class InvitationView(msgspec.Struct, kw_only=True, frozen=True):
    """An invitation. `url` and `token` are shown once, in the response to the request that created it."""

    expires_at: Annotated[int, instant_doc("When it expires", 1_893_456_000_000)]
    url: Annotated[
        str | UnsetType, doc("The URL to send to the user.", "https://discue.example.com/dashboard/invitation#mJ3uV9aY")
    ] = UNSET
    token: Annotated[str | UnsetType, _TOKEN] = UNSET


class UserResponse(ApiResponse, kw_only=True, frozen=True):
    user: Annotated[UserView, doc("The user.")]
    invitation: Annotated[InvitationView | UnsetType, doc("The invitation. Shown only when it is created.")] = UNSET

    def without_secrets(self) -> Self:
        if isinstance(self.invitation, UnsetType):
            return self
        return replace(self, invitation=InvitationView(expires_at=self.invitation.expires_at))


def _fields(body: UserBody) -> UserFields:
    return UserFields(
        email=text_given(body.email),
        display_name=body.display_name,
        role=text_given(body.role),
        password=text_given(body.password),
        invite=body.invite is True,
        status=text_given(body.status),
    )


_USERS: Final = ResourceKind[model.User](
    path="/users",
    name="user",
    view_type=UserView,
    view=lambda _, user: view_of(UserView, user, alias=user.email, name=user.email),
    needs=Needs.of("users"),
    body=UserBody,
    fields=lambda call: _fields(call.body),
    codes=("email_taken", "conflicting_fields"),
    own_response=UserResponse,
)


def _with_invitation(call: Call, details: UserDetails) -> ApiResponse:
    response, made = _USERS.one(call, details.user), details.invitation
    if made is None:
        return response
    # The token is in the fragment because browsers do not send that to servers, whose logs would have it.
    has_page = call.control.settings.dashboard
    root = call.control.settings.dashboard_root(call.sent_root)
    place = f"{root}/dashboard/invitation" if has_page else f"{call.sent_root}{VERSION}/invitations"
    invitation = InvitationView(expires_at=made.expires_at, url=f"{place}#{made.token}", token=made.token)
    return replace(response, invitation=invitation)


async def accept(call: Call) -> ApiResponse:
    """Accept an invitation. Sets the user's password. A token can be used once."""
    services, body = call.services, call.body
    if services.readiness.phase != "serving":
        raise services.readiness.refusal()
    user = await services.authenticator.attempt(
        [sign_in_subject(call.address)], partial(users.accept, call.control, body.token, body.password)
    )
    if user is None:
        raise NotFound("Invitation not found, or expired.")
    return replace(_USERS.one(call, user), links=links_of(f"{call.base}/users/{user.public_id}"))


ROUTES = (
    _USERS.list_route(users.page, "List users."),
    _USERS.create_route(
        users.create,
        "Create a user. With a password, or with an invitation, which only this response shows.",
        "quota_exceeded",
        respond=_with_invitation,
        required=("email", "role"),
    ),
    _USERS.get_route(users.get, "Get a user."),
    _USERS.change_route(
        users.change,
        "Change a user. A new password or invitation invalidates the previous invitation.",
        "last_owner",
        respond=_with_invitation,
        example={"role": "viewer"},
    ),
    _USERS.delete_route(users.delete, "Delete a user.", "last_owner"),
    Route(
        POST,
        "/invitations",
        accept,
        None,
        request=InvitationBody,
        response=UserResponse,
        codes=("not_found", "invalid_value", "organization_suspended"),
        reads=FEW_ROWS,
    ),
)

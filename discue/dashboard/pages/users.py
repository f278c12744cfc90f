"""Users of the organization: their list, one user, and what an administrator does about them."""

from functools import partial
from typing import Any, Final

from discue.control.context import require_found
from discue.dashboard.listing import names_offered, selection_of, shown
from discue.dashboard.users import second_factor, sessions, users
from discue.dashboard.users.users import ROLES, UserDetails, UserFields, may_manage
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route
from discue.domain.errors import Forbidden
from discue.domain.model import User

_WORDS: Final = {"active": "acknowledged", "invited": "pending", "disabled": "disabled"}
"""The kind of badge for each state of a user."""


async def show(visit: Visit) -> Page:
    found = await users.page(visit.control, visit.principal, selection_of(visit, "alias"))
    protected = await second_factor.users_with(visit.control, found.items)
    page = shown(visit, found, [user.public_id for user in found.items], "alias")
    values = {"list": page, "protected": protected, "state_of": _state_of, "words": _WORDS}
    return Page("users.html", "Users", {**values, "offered": await names_offered(visit, "user", page)})


async def show_form(visit: Visit) -> Page:
    return Page("user_new.html", "Invite a user", {"roles": _roles(visit)})


async def create(visit: Visit) -> Page:
    form = visit.form
    fields = UserFields(form.get("email", "").strip(), form.get("display_name", "").strip(), form.get("role", ""))
    return _link_page(visit, await users.create(visit.control, visit.principal, fields))


async def change(visit: Visit) -> Redirect:
    form = visit.form
    fields = UserFields(
        display_name=form.get("display_name", "").strip(), role=form.get("role"), status=form.get("status")
    )
    await users.change(visit.control, visit.principal, visit.ids[0], fields)
    return Redirect(f"/users/{visit.ids[0]}", "saved")


async def invite(visit: Visit) -> Page:
    _require_other(visit)
    made = await users.change(visit.control, visit.principal, visit.ids[0], UserFields(invite=True))
    return _link_page(visit, made)


async def remove_factor(visit: Visit) -> Redirect:
    _require_other(visit)
    await second_factor.remove(visit.control, visit.principal, visit.ids[0])
    return Redirect(f"/users/{visit.ids[0]}", "saved")


async def end(visit: Visit) -> Redirect:
    await sessions.revoke_all(visit.control, visit.principal, visit.ids[0])
    return Redirect(f"/users/{visit.ids[0]}", "sessions_ended")


async def delete(visit: Visit) -> Redirect:
    await users.delete(visit.control, visit.principal, visit.ids[0])
    return Redirect("/users", "deleted")


async def _page(visit: Visit, template: str, heading: str = "", *, is_of_others: bool = False) -> Page:
    if is_of_others:
        _require_other(visit)
    user = await users.get(visit.control, visit.principal, visit.ids[0])
    values: dict[str, Any] = {
        "user": user,
        "state": _state_of(user),
        "words": _WORDS,
        "heading": heading,
        "roles": _roles(visit),
        "manages": visit.principal.may("users", "write", user.public_id) and user.role in _roles(visit),
        "is_own": user.public_id == visit.principal.key_public_id,
        "has_factor": bool(await second_factor.users_with(visit.control, [user])),
        "sessions": await sessions.sessions_of(visit.control, visit.principal, user.public_id),
    }
    return Page(template, heading or user.email, values)


def _require_other(visit: Visit) -> None:
    """Raise Forbidden for the user's own account, where a session alone must not be enough to take it over for good."""
    if visit.ids[0] == visit.principal.key_public_id:
        raise Forbidden("Use your account page.")


_SHOW_INVITE: Final = partial(_page, template="user_invite.html", heading="New link", is_of_others=True)
_SHOW_FACTOR: Final = partial(_page, template="user_factor.html", heading="Remove the second factor", is_of_others=True)
_SHOW_END: Final = partial(_page, template="user_end.html", heading="Sign out everywhere")
_SHOW_DELETE: Final = partial(_page, template="user_delete.html", heading="Delete")


def _roles(visit: Visit) -> list[str]:
    own = visit.principal.role
    return [role for role in reversed(ROLES) if own is not None and may_manage(own, role)]


def _link_page(visit: Visit, made: UserDetails) -> Page:
    invitation = require_found(made.invitation)
    # The token is in the fragment because browsers do not send that to servers, whose logs would have it.
    link = f"{visit.sent_url}/dashboard/invitation#{invitation.token}"
    values = {"user": made.user, "link": link, "expires_at": invitation.expires_at}
    return Page("user_link.html", "Link for the user", values)


def _state_of(user: User) -> str:
    return "disabled" if user.status == "disabled" else user.state


ROUTES: Final = (
    PageRoute("/users", show, needs="users"),
    form_route("/users/new", show_form, create, "users", grants_access=True),
    PageRoute("/users/{id}", partial(_page, template="user.html"), change, needs="users", grants_access=True),
    form_route("/users/{id}/invite", _SHOW_INVITE, invite, "users", grants_access=True),
    form_route("/users/{id}/second-factor", _SHOW_FACTOR, remove_factor, "users", grants_access=True),
    form_route("/users/{id}/sign-out", _SHOW_END, end, "users"),
    form_route("/users/{id}/delete", _SHOW_DELETE, delete, "users"),
)

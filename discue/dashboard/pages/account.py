"""The account of the user who is signed in: password, second factor, and the browsers that are signed in."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from discue.dashboard import cookies
from discue.dashboard.provider_sign_in import ProviderSignIn
from discue.dashboard.qr import TooLong, svg_of
from discue.dashboard.route import PageRoute
from discue.dashboard.users import identities, second_factor, sessions
from discue.dashboard.users.account import Account
from discue.dashboard.users.second_factor import Enrolment
from discue.dashboard.visit import Page, Redirect, Visit
from discue.domain.errors import NotFound, invalid
from discue.domain.reservations import HTML_PAGE

_PATH: Final = "/account"


async def show(visit: Visit) -> Page:
    user = visit.user.details.user
    account = _account(visit) if user is not None else None
    values: dict[str, Any] = {
        "user": user,
        "has_factor": account is not None and await account.has_second_factor(),
        "sessions": await sessions.sessions_of(visit.control, visit.principal),
        "own": visit.user.details.session.public_id,
        "scopes": _scopes(visit),
        "providers": ProviderSignIn(visit.services, visit.providers).providers,
    }
    return Page("account.html", "Account", values)


async def end_session(visit: Visit) -> Redirect:
    """End the session that the form names, or all others."""
    if session := visit.form.get("session"):
        await sessions.revoke(visit.control, visit.principal, session)
    else:
        await sessions.revoke_all(visit.control, visit.principal, but=visit.user.details.session.id)
    return Redirect(_PATH, "sessions_ended")


async def show_password(visit: Visit) -> Page:
    del visit
    return Page("password.html", "Change the password")


async def change_password(visit: Visit) -> Redirect:
    form = visit.form
    if form.get("new_password") != form.get("again"):
        raise invalid("/again", "differs from the new password")
    device = await _account(visit).change_password(form.get("password", ""), form.get("new_password", ""))
    return Redirect(_PATH, "password_set", (cookies.device(visit.url, device),))


async def show_factor(visit: Visit) -> Page | Redirect:
    account = _account(visit)
    if account.needs_confirmation:
        return Redirect(f"/confirm?next={_PATH}/second-factor")
    values = {
        "has_factor": await account.has_second_factor(),
        "has_password": account.user.password_hash is not None,
    }
    return Page("second_factor.html", "Second factor", values)


async def change_factor(visit: Visit) -> Page | Redirect:
    """Make a secret, and show it; or remove the second factor."""
    account, password = _account(visit), visit.form.get("password", "")
    if account.needs_confirmation:
        return Redirect(f"/confirm?next={_PATH}/second-factor?done=confirmed")
    if await account.has_second_factor():
        await account.remove_second_factor(password)
        return Redirect(_PATH, "factor_removed")
    enrolment = await account.begin_second_factor(password)
    return await _code_page(enrolment)


async def show_code(visit: Visit) -> Page:
    """Show the form for the code: after a wrong code, with the secret that the form has sent back."""
    return await _code_page(second_factor.enrolment_of(_account(visit).user, visit.form.get("secret", "")))


async def _code_page(enrolment: Enrolment | None) -> Page:
    code = "" if enrolment is None else await _code_of(enrolment.uri)
    return Page("factor_code.html", "Second factor", {"enrolment": enrolment, "code": code})


async def confirm(visit: Visit) -> Page:
    """Require the second factor from now on, and show the recovery codes: this is the only time."""
    codes = await _account(visit).confirm_second_factor(visit.form.get("code", ""))
    return Page("recovery_codes.html", "Recovery codes", {"codes": codes})


async def show_connect(visit: Visit) -> Page:
    providers = ProviderSignIn(visit.services, visit.providers).providers
    if not providers:
        raise NotFound("There is no identity provider.")
    return Page("connect.html", "Connect an account", {"providers": providers, "provider_url": "", "title": ""})


async def connect(visit: Visit) -> Page:
    """Begin to connect an account. The page leads to the provider: a form must not, by the policy of the page."""
    name, at_provider = visit.form.get("provider", ""), ProviderSignIn(visit.services, visit.providers)
    account = _account(visit)
    await account.require_password(visit.form.get("password", ""))
    permit = await identities.permit_connection(visit.control, account.user)
    redirect = await at_provider.begin(name, visit.sent_url, permit=permit)
    values = {"providers": (), "provider_url": redirect.url, "title": dict(at_provider.providers)[name]}
    cookie = cookies.pending(cookies.pending_name(visit.url), redirect.kept.cookie)
    return Page("connect.html", "Connect an account", values, (cookie,))


async def _code_of(uri: str) -> Markup:
    """Return the QR code of a URI; nothing if it is too long for one."""
    try:
        # On a thread: a large code takes 50 ms.
        return Markup(await asyncio.to_thread(svg_of, uri, "QR code of the secret"))  # noqa: S704 - made here
    except TooLong:
        return Markup("")


def _account(visit: Visit) -> Account:
    return Account(visit.control, visit.services.authenticator, visit.user.details)


def _scopes(visit: Visit) -> Mapping[str, list[str]]:
    """Return the resources that the role may change or see, by the access."""
    scopes = sorted(visit.principal.scopes.items())
    return {access: [name for name, scope in scopes if scope.access == access] for access in ("write", "read")}


ROUTES: Final = (
    PageRoute(_PATH, show, reads=HTML_PAGE),
    PageRoute(f"{_PATH}/sessions", show, end_session, reads=HTML_PAGE),
    PageRoute(f"{_PATH}/password", show_password, change_password, reads=HTML_PAGE),
    PageRoute(f"{_PATH}/connect", show_connect, connect, waits=True, reads=HTML_PAGE),
    PageRoute(f"{_PATH}/second-factor", show_factor, change_factor, reads=HTML_PAGE),
    PageRoute(f"{_PATH}/second-factor/code", show_code, confirm, reads=HTML_PAGE),
)

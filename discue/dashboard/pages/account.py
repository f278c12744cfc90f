"""The account of the user who is signed in: password, second factor, and the browsers that are signed in."""

import asyncio
from typing import Any, Final

from markupsafe import Markup

from discue.dashboard import cookies
from discue.dashboard.provider_sign_in import begin, providers_offered, shown_errors
from discue.dashboard.users import identities, second_factor, sessions
from discue.dashboard.users.second_factor import Enrolment
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, plain_page
from discue.domain.errors import NotFound, invalid

_QUIET: Final = 4
"""The width of the empty border, in modules."""
_MOST_BYTES: Final = 362
"""A code with more is too dense for the camera of a phone at the size of the page."""


def svg_of(text: str, label: str) -> str:
    """Return a QR code (ISO/IEC 18004) as an SVG element; "" if the text is too long for one.

    `label` is not escaped.
    """
    content = text.encode()
    if len(content) > _MOST_BYTES:
        return ""
    # The library takes 2 MB, and 30 ms for its import.
    import segno  # noqa: PLC0415

    rows = list(segno.make(content, error="m", micro=False).matrix_iter(border=_QUIET))
    dark = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, is_dark in enumerate(row) if is_dark)
    # Dark on light in every theme: not all scanners read the inverse.
    return (
        f'<svg class="qr" role="img" aria-label="{label}" viewBox="0 0 {len(rows)} {len(rows)}" '
        f'shape-rendering="crispEdges"><rect width="{len(rows)}" height="{len(rows)}" fill="#fff"/>'
        f'<path d="{dark}" fill="#000"/></svg>'
    )


_PATH: Final = "/account"


async def show(visit: Visit) -> Page:
    user, scopes = visit.user.user, sorted(visit.principal.scopes.items())
    account = visit.account if user is not None else None
    values: dict[str, Any] = {
        "user": user,
        "has_factor": account is not None and await account.has_second_factor(),
        "sessions": await sessions.sessions_of(visit.control, visit.principal),
        "own": visit.user.session.public_id,
        "scopes": {access: [name for name, scope in scopes if scope.access == access] for access in ("write", "read")},
        "providers": providers_offered(visit),
    }
    return Page("account.html", "Account", values)


async def end_session(visit: Visit) -> Redirect:
    if session := visit.form.get("session"):
        await sessions.revoke(visit.control, visit.principal, session)
    else:
        await sessions.revoke_all(visit.control, visit.principal, but=visit.user.session.id)
    return Redirect(_PATH, "sessions_ended")


async def change_password(visit: Visit) -> Redirect:
    form = visit.form
    if form.get("new_password") != form.get("again"):
        raise invalid("/again", "differs from the new password")
    device = await visit.account.change_password(form.get("password", ""), form.get("new_password", ""))
    return Redirect(_PATH, "password_set", (cookies.device(visit.url, device),))


async def show_factor(visit: Visit) -> Page | Redirect:
    account = visit.account
    if account.needs_confirmation:
        return Redirect(f"/confirm?next={_PATH}/second-factor")
    values = {
        "has_factor": await account.has_second_factor(),
        "has_password": account.user.password_hash is not None,
    }
    return Page("second_factor.html", "Second factor", values)


async def change_factor(visit: Visit) -> Page | Redirect:
    """Make a secret, and show it; or remove the second factor."""
    account, password = visit.account, visit.form.get("password", "")
    if account.needs_confirmation:
        return Redirect(f"/confirm?next={_PATH}/second-factor?done=confirmed")
    if await account.has_second_factor():
        await account.remove_second_factor(password)
        return Redirect(_PATH, "factor_removed")
    enrolment = await account.begin_second_factor(password)
    return await _code_page(enrolment)


async def show_code(visit: Visit) -> Page:
    """Show the form for the code: after a wrong code, with the secret that the form has sent back."""
    return await _code_page(second_factor.enrolment_of(visit.account.user, visit.form.get("secret", "")))


async def _code_page(enrolment: Enrolment | None) -> Page:
    # On a thread: a large code takes 50 ms.
    code = "" if enrolment is None else await asyncio.to_thread(svg_of, enrolment.uri, "QR code of the secret")
    return Page("factor_code.html", "Second factor", {"enrolment": enrolment, "code": Markup(code)})  # noqa: S704


async def confirm(visit: Visit) -> Page:
    """Require the second factor from now on, and show the recovery codes: this is the only time."""
    codes = await second_factor.confirm(visit.control, visit.principal, visit.account.user, visit.form.get("code", ""))
    return Page("recovery_codes.html", "Recovery codes", {"codes": codes})


async def show_connect(visit: Visit) -> Page:
    providers = providers_offered(visit)
    if not providers:
        raise NotFound("There is no identity provider.")
    return Page("connect.html", "Connect an account", {"providers": providers, "provider_url": "", "title": ""})


async def connect(visit: Visit) -> Page:
    """Begin to connect an account. The page leads to the provider: a form must not, by the policy of the page."""
    name, account = visit.form.get("provider", ""), visit.account
    await account.require_password(visit.form.get("password", ""))
    permit = await identities.permit_connection(visit.control, account.user)
    with shown_errors(visit, name):
        redirect = await begin(visit, name, permit=permit)
    values = {"providers": (), "provider_url": redirect.url, "title": visit.providers[name].settings.title}
    cookie = cookies.pending(cookies.pending_name(visit.url), redirect.pending.cookie)
    return Page("connect.html", "Connect an account", values, (cookie,))


ROUTES: Final = (
    PageRoute(_PATH, show),
    PageRoute(f"{_PATH}/sessions", show, end_session),
    PageRoute(f"{_PATH}/password", plain_page("password.html", "Change the password"), change_password),
    PageRoute(f"{_PATH}/connect", show_connect, connect, waits=True),
    PageRoute(f"{_PATH}/second-factor", show_factor, change_factor),
    PageRoute(f"{_PATH}/second-factor/code", show_code, confirm),
)

"""The pages that let a user in, and out: the sign-in form, links that work once, invitations, identity providers."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from discue.auth.authenticator import sign_in_subject
from discue.dashboard import cookies
from discue.dashboard.exchange import PageResponse, redirect_response
from discue.dashboard.forms import FieldFaults, fields_of, next_path, safe_path
from discue.dashboard.provider_sign_in import begin, provider_of, providers_offered, redirect_uri, shown_errors
from discue.dashboard.render import bare_response
from discue.dashboard.steps import read_form, require_opened
from discue.dashboard.users import identities, sessions, sign_in, users
from discue.dashboard.users.identities import ProviderResponse
from discue.dashboard.users.provider import PendingSignIn
from discue.dashboard.users.sign_in import PasswordSignIn, new_device_cookie
from discue.dashboard.visit import Page, Visit
from discue.domain.errors import DiscueError, Forbidden, NotFound, Unauthorized
from discue.domain.model import User
from discue.http.frame import read_cookie

SIGN_IN: Final = "/sign-in"

_WRONG: Final = "The email address or the password is wrong."
_WRONG_CODE: Final = (
    "The code is wrong or has already been used. Each code works once: wait until the app shows the next one."
)
_LINK_ENDED: Final = "This link has already been used, or is older than a minute. It signs in once."
_AFTER_LINK: Final = "Sign in with an email address and a password. `discue demo` prints those of its users."
_AFTER_LINK_OF_DEV: Final = (
    "Restart `discue dev` for a new one. To sign in at any time, run `discue users create EMAIL` in the same folder."
)
_INVITATION_ENDED: Final = "This link has already been used or has expired. Ask for a new one."
_NOTHING: Final[Mapping[str, str]] = {}


async def show(visit: Visit, error: DiscueError | None = None, fields: Mapping[str, str] = _NOTHING) -> PageResponse:
    """Show the form: for the password, or for the code of the second factor."""
    following = next_path(fields or visit.query)
    if visit.signed_in is not None and error is None:
        return redirect_response(visit.base + following)
    values = {
        "email": fields.get("email", ""),
        "organization": fields.get("organization", ""),
        "needs_code": await sign_in.unfinished_of(visit.control, visit.token) is not None,
        "error": error,
        "next_path": following,
        "providers": providers_offered(visit),
        "left": visit.query.get("from", ""),
    }
    return bare_response(visit, Page("sign_in.html", "Sign in", values), error)


async def enter(visit: Visit) -> PageResponse:
    """Take a step of signing in, as the form says: the password, or the code of the second factor."""
    fields = await fields_of(await read_form(visit))
    control, authenticator = visit.control, visit.services.authenticator
    try:
        if "code" in fields:
            wrong = _WRONG_CODE
            opened = await sign_in.enter_code(control, authenticator, fields["code"].strip(), visit.browser)
        else:
            wrong, email, alias = _WRONG, fields.get("email", "").strip(), fields.get("organization", "").strip()
            entered = PasswordSignIn(email, fields.get("password", ""), alias)
            opened = await sign_in.sign_in(control, authenticator, entered, visit.browser)
        if opened is None:
            raise Unauthorized(wrong)
    except DiscueError as error:
        if error.status >= 500:
            raise
        return await show(visit, error, fields)
    path = next_path(fields)
    if opened.session.state == "unfinished":
        path = f"{SIGN_IN}?next={path}" if path else SIGN_IN
    return session_response(visit, opened.token, path, device=opened.device)


async def sign_out(visit: Visit) -> PageResponse:
    await sessions.sign_out(visit.control, visit.token)
    provider = visit.signed_in.session.provider if visit.signed_in is not None else ""
    # The page offers to sign out there, too: by the policy of pages, a form must not lead to another site.
    return session_response(visit, "", f"{SIGN_IN}?from={provider}" if provider else SIGN_IN)


async def open_link(visit: Visit) -> PageResponse:
    """Sign in the browser that opens a link with a one-time code."""
    require_opened(visit.headers)
    if visit.scope.method == "HEAD":
        # Programs that only look at a link must not use it up.
        return redirect_response(visit.base)
    opened = await sign_in.redeem(visit.control, visit.query.get("code", ""), visit.browser)
    if opened is None:
        raise Forbidden(f"{_LINK_ENDED} {_AFTER_LINK_OF_DEV if visit.installed_inbox is not None else _AFTER_LINK}")
    return session_response(visit, opened.token, next_path(visit.query))


async def with_provider(visit: Visit) -> PageResponse:
    """Lead the browser to an identity provider, or take it back from there."""
    name, _, rest = visit.path.removeprefix(f"{SIGN_IN}/").partition("/")
    cookie = cookies.pending_name(visit.url)
    try:
        with shown_errors(visit, name):
            if not rest:
                redirect = await begin(visit, name, next_path(visit.query))
                response = redirect_response(redirect.url)
                response.headers.append(cookies.pending(cookie, redirect.pending.cookie))
                return response
            if rest == "sign-out":
                left_at = await provider_of(visit, name).sign_out_url(f"{visit.sent_url}/dashboard/sign-in")
                return redirect_response(left_at or f"{visit.base}{SIGN_IN}")
            if rest != "callback":
                raise NotFound("There is no such page.")
            response = await _return(visit, name, read_cookie(visit.headers, cookie))
    except DiscueError as error:
        if visit.signed_in is not None:
            raise
        response = await show(visit, error)
    response.headers.append(cookies.pending(cookie, ""))
    return response


async def _return(visit: Visit, name: str, cookie: str) -> PageResponse:
    """Sign in the user who comes back from a provider, or connect the account to the user who is signed in."""
    provider, pending = provider_of(visit, name), PendingSignIn.of_cookie(cookie)
    # Also checks the provider's name: the response of one provider must not pass for that of another.
    if pending is None or pending.provider != name:
        raise Unauthorized("This sign-in was not started in this browser, or took too long. Sign in again.")
    returned = ProviderResponse(provider, pending, visit.query, redirect_uri(visit, name))
    if pending.permit and visit.signed_in is not None:
        await identities.connect(visit.control, visit.principal, returned)
        return redirect_response(f"{visit.base}/account?done=connected")
    opened = await identities.sign_in(visit.control, visit.services.authenticator, returned, visit.browser)
    return session_response(visit, opened.token, safe_path(pending.next_path))


async def show_invitation(
    visit: Visit, error: DiscueError | None = None, token: str = "", email: str = ""
) -> PageResponse:
    shown = {"problems": FieldFaults(error).problems(), "token": token, "email": email}
    page = Page("invitation.html", "Choose a password", shown)
    return bare_response(visit, page, error)


async def accept(visit: Visit) -> PageResponse:
    """Set the password. Without one, show who the token invites: the script of the page asks for it."""
    fields, email = await fields_of(await read_form(visit)), ""
    token = fields.get("token", "").strip()
    refusal: DiscueError | None = None
    try:
        # First: a password that is refused is asked for again, on a page that names the user.
        email = (await _redeem(visit, partial(users.invited, visit.control, token))).email
        if "password" in fields:
            user = await _redeem(visit, partial(users.accept, visit.control, token, fields["password"]))
            # The browser counts as one in which the user has signed in: during an attack, a link lets a user in with a
            # new one.
            device = new_device_cookie(user.password_hash or "", visit.control.random_text)
            response = redirect_response(f"{visit.base}{SIGN_IN}?done=password_set")
            response.headers.append(cookies.device(visit.url, device))
            return response
    except DiscueError as error:
        if error.status >= 500:
            raise
        refusal = error
    return await show_invitation(visit, refusal, fields.get("token", ""), email)


async def _redeem(visit: Visit, find_user: Callable[[], Awaitable[User | None]]) -> User:
    """Return the user whom a token invites. Raises NotFound for a wrong token, and LockedOut.

    Wrong tokens count like wrong passwords.
    """
    user = await visit.services.authenticator.attempt([sign_in_subject(visit.address)], find_user)
    if user is None:
        raise NotFound(_INVITATION_ENDED)
    return user


def session_response(visit: Visit, token: str, path: str, *, device: str = "", resends: bool = False) -> PageResponse:
    """Return a redirect to a path below `/dashboard` that sets the cookie of a session; an empty token deletes it.

    `device` is the cookie of a browser in which a user has signed in. If it is empty, the browser keeps its cookie.
    """
    response = redirect_response(visit.base + path, resends=resends)
    response.headers.append(cookies.session(cookies.session_name(visit.url), token))
    if device:
        response.headers.append(cookies.device(visit.url, device))
    return response

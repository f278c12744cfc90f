"""The pages that let a user in, and out: the sign-in form, links that work once, invitations, identity providers."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from discue.auth.authenticator import sign_in_subject
from discue.dashboard import cookies
from discue.dashboard.exchange import PageResponse, redirect_response
from discue.dashboard.forms import FORM_BYTES, fields_of
from discue.dashboard.provider_sign_in import Callback, KeptSignIn, ProviderSignIn
from discue.dashboard.request import bare_response, browser_of, next_path, safe_path, session_response
from discue.dashboard.sessions import Sessions
from discue.dashboard.steps import PageSteps, require_opened
from discue.dashboard.users import users
from discue.dashboard.users.device_cookie import new_device_cookie
from discue.dashboard.visit import NOTICES, Page, Visit
from discue.domain.errors import DiscueError, Forbidden, NotFound
from discue.http.frame import read_cookie
from discue.http.services import Services

SIGN_IN: Final = "/sign-in"

_LINK_ENDED: Final = "This link has already been used, or is older than a minute. It signs in once."
_AFTER_LINK: Final = "Sign in with an email address and a password. `discue demo` prints those of its users."
_AFTER_LINK_OF_DEV: Final = (
    "Restart `discue dev` for a new one. To sign in at any time, run `discue users create EMAIL` in the same folder."
)
_INVITATION_ENDED: Final = "This link has already been used or has expired. Ask for a new one."
_NOTHING: Final[Mapping[str, str]] = {}


class SignInPages:
    """Pages that need no user."""

    def __init__(
        self, services: Services, steps: PageSteps, sessions: Sessions, at_provider: ProviderSignIn, *, has_inbox: bool
    ) -> None:
        self._control = services.control
        self._authenticator = services.authenticator
        self._has_inbox = has_inbox
        self._steps = steps
        self._sessions = sessions
        self._at_provider = at_provider

    async def show(
        self, visit: Visit, error: DiscueError | None = None, fields: Mapping[str, str] = _NOTHING
    ) -> PageResponse:
        """Show the form: for the password, or for the code of the second factor."""
        following = next_path(fields or visit.query)
        if visit.signed_in is not None and error is None:
            return redirect_response(visit.base + following)
        values = {
            "email": fields.get("email", ""),
            "organization": fields.get("organization", ""),
            "needs_code": await self._sessions.needs_code(visit.token),
            "error": error,
            "next_path": following,
            "providers": self._at_provider.providers,
            "left": visit.query.get("from", ""),
            "notice": NOTICES.get(visit.query.get("done", ""), ""),
        }
        return self._bare(visit, Page("sign_in.html", "Sign in", values), error)

    async def sign_in(self, visit: Visit) -> PageResponse:
        fields = await self._form(visit)
        try:
            signed_in = await self._sessions.sign_in(fields, browser_of(visit))
        except DiscueError as error:
            if error.status >= 500:
                raise
            return await self.show(visit, error, fields)
        path = next_path(fields)
        if signed_in.needs_code:
            path = f"{SIGN_IN}?next={path}" if path else SIGN_IN
        return session_response(visit, signed_in.token, path, device=signed_in.device)

    async def sign_out(self, visit: Visit) -> PageResponse:
        if visit.token:
            await self._sessions.sign_out(visit.token)
        provider = visit.signed_in.details.session.provider if visit.signed_in is not None else ""
        # The page offers to sign out there, too: by the policy of pages, a form must not lead to another site.
        return session_response(visit, "", f"{SIGN_IN}?from={provider}" if provider else SIGN_IN)

    async def open_link(self, visit: Visit) -> PageResponse:
        """Sign in the browser that opens a link with a one-time code."""
        require_opened(visit.headers)
        if visit.scope.method == "HEAD":
            # Programs that only look at a link must not use it up.
            return redirect_response(visit.base)
        token = await self._sessions.redeem(visit.query.get("code", ""), browser_of(visit))
        if token is None:
            raise Forbidden(f"{_LINK_ENDED} {_AFTER_LINK_OF_DEV if self._has_inbox else _AFTER_LINK}")
        return session_response(visit, token, next_path(visit.query))

    async def with_provider(self, visit: Visit) -> PageResponse:
        """Lead the browser to an identity provider, or take it back from there."""
        name, _, rest = visit.path.removeprefix(f"{SIGN_IN}/").partition("/")
        url, cookie = visit.sent_url, cookies.pending_name(visit.url)
        try:
            if not rest:
                is_again = visit.signed_in is not None
                redirect = await self._at_provider.begin(name, url, next_path(visit.query), again=is_again)
                response = redirect_response(redirect.url)
                response.headers.append(cookies.pending(cookie, redirect.kept.cookie))
                return response
            if rest == "sign-out":
                return redirect_response(await self._at_provider.sign_out_url(name, url) or f"{visit.base}{SIGN_IN}")
            if rest != "callback":
                raise NotFound("There is no such page.")
            response = await self._return(visit, name, read_cookie(visit.headers, cookie))
        except DiscueError as error:
            if visit.signed_in is not None:
                raise
            response = await self.show(visit, error)
        response.headers.append(cookies.pending(cookie, ""))
        return response

    async def _return(self, visit: Visit, provider: str, cookie: str) -> PageResponse:
        """Sign in the user who comes back from a provider, or connect the account to the user who is signed in."""
        callback = Callback(provider, visit.sent_url, visit.query, KeptSignIn.of_cookie(cookie))
        if callback.kept is not None and callback.kept.permit and visit.signed_in is not None:
            await self._at_provider.connect(callback, visit.signed_in.principal)
            return redirect_response(f"{visit.base}/account?done=connected")
        finished = await self._at_provider.finish(callback, browser_of(visit))
        return session_response(visit, finished.token, safe_path(finished.next_path))

    async def show_invitation(
        self, visit: Visit, error: DiscueError | None = None, token: str = "", email: str = ""
    ) -> PageResponse:
        page = Page("invitation.html", "Choose a password", {"error": error, "token": token, "email": email})
        return self._bare(visit, page, error)

    async def accept(self, visit: Visit) -> PageResponse:
        """Set the password. Without one, show who the token invites: the script of the page asks for it."""
        fields, email = await self._form(visit), ""
        token = fields.get("token", "").strip()
        refusal: DiscueError | None = None
        try:
            # First: a password that is refused is asked for again, on a page that names the user.
            email = await self._invited(token, visit.address)
            if "password" in fields:
                device = await self._set_password(token, fields["password"], visit.address)
                response = redirect_response(f"{visit.base}{SIGN_IN}?done=password_set")
                response.headers.append(cookies.device(visit.url, device))
                return response
        except DiscueError as error:
            if error.status >= 500:
                raise
            refusal = error
        return await self.show_invitation(visit, refusal, fields.get("token", ""), email)

    async def _invited(self, token: str, address: str) -> str:
        """Return the email of the user whom a token invites. Raises NotFound for a wrong token, and LockedOut.

        Wrong tokens count like wrong passwords.
        """
        find = partial(users.invited, self._control, token)
        user = await self._authenticator.attempt([sign_in_subject(address)], find)
        if user is None:
            raise NotFound(_INVITATION_ENDED)
        return user.email

    async def _set_password(self, token: str, password: str, address: str) -> str:
        """Set the password that a user has chosen, and return the cookie of the browser.

        The browser counts as one in which the user has signed in: during an attack, a link lets a user in with a new
        one. Raises NotFound for a wrong token, Unprocessable, and LockedOut.
        """
        accept = partial(users.accept, self._control, token, password)
        user = await self._authenticator.attempt([sign_in_subject(address)], accept)
        if user is None or user.password_hash is None:
            raise NotFound(_INVITATION_ENDED)
        return new_device_cookie(user.password_hash, self._control.random_text)

    async def _form(self, visit: Visit) -> Mapping[str, str]:
        return await fields_of(await self._steps.form(visit, FORM_BYTES))

    def _bare(self, visit: Visit, page: Page, error: DiscueError | None) -> PageResponse:
        return bare_response(visit, page, 200 if error is None else error.status)

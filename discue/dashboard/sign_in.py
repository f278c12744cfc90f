"""The pages that let a user in, and out: the sign-in form, links that work once, invitations, identity providers."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from discue.auth.authenticator import sign_in_subject
from discue.dashboard import cookies
from discue.dashboard.exchange import PageResponse, redirect_response
from discue.dashboard.forms import FORM_BYTES, fields_of
from discue.dashboard.provider_sign_in import Callback, KeptSignIn, ProviderSignIn
from discue.dashboard.request import DashboardRequest, bare_response, next_path, safe_path, session_response
from discue.dashboard.sessions import Sessions
from discue.dashboard.steps import PageSteps, require_opened
from discue.dashboard.users import users
from discue.dashboard.users.device_cookie import new_device_cookie
from discue.dashboard.visit import NOTICES, Page
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
        self, request: DashboardRequest, error: DiscueError | None = None, fields: Mapping[str, str] = _NOTHING
    ) -> PageResponse:
        """Show the form: for the password, or for the code of the second factor."""
        following = next_path(fields or request.query)
        if request.user is not None and error is None:
            return redirect_response(request.base + following)
        values = {
            "email": fields.get("email", ""),
            "organization": fields.get("organization", ""),
            "needs_code": await self._sessions.needs_code(request.token),
            "error": error,
            "next_path": following,
            "providers": self._at_provider.providers,
            "left": request.query.get("from", ""),
            "notice": NOTICES.get(request.query.get("done", ""), ""),
        }
        return self._bare(request, Page("sign_in.html", "Sign in", values), error)

    async def sign_in(self, request: DashboardRequest) -> PageResponse:
        fields = await self._form(request)
        try:
            signed_in = await self._sessions.sign_in(fields, request.browser)
        except DiscueError as error:
            if error.status >= 500:
                raise
            return await self.show(request, error, fields)
        path = next_path(fields)
        if signed_in.needs_code:
            path = f"{SIGN_IN}?next={path}" if path else SIGN_IN
        return session_response(request, signed_in.token, path, device=signed_in.device)

    async def sign_out(self, request: DashboardRequest) -> PageResponse:
        if request.token:
            await self._sessions.sign_out(request.token)
        provider = request.user.details.session.provider if request.user is not None else ""
        # The page offers to sign out there, too: by the policy of pages, a form must not lead to another site.
        return session_response(request, "", f"{SIGN_IN}?from={provider}" if provider else SIGN_IN)

    async def open_link(self, request: DashboardRequest) -> PageResponse:
        """Sign in the browser that opens a link with a one-time code."""
        require_opened(request.headers)
        if request.scope.method == "HEAD":
            # Programs that only look at a link must not use it up.
            return redirect_response(request.base)
        token = await self._sessions.redeem(request.query.get("code", ""), request.browser)
        if token is None:
            raise Forbidden(f"{_LINK_ENDED} {_AFTER_LINK_OF_DEV if self._has_inbox else _AFTER_LINK}")
        return session_response(request, token, next_path(request.query))

    async def with_provider(self, request: DashboardRequest) -> PageResponse:
        """Lead the browser to an identity provider, or take it back from there."""
        name, _, rest = request.path.removeprefix(f"{SIGN_IN}/").partition("/")
        url, cookie = request.sent_url, cookies.pending_name(request.url)
        try:
            if not rest:
                is_again = request.user is not None
                redirect = await self._at_provider.begin(name, url, next_path(request.query), again=is_again)
                response = redirect_response(redirect.url)
                response.headers.append(cookies.pending(cookie, redirect.kept.cookie))
                return response
            if rest == "sign-out":
                return redirect_response(await self._at_provider.sign_out_url(name, url) or f"{request.base}{SIGN_IN}")
            if rest != "callback":
                raise NotFound("There is no such page.")
            response = await self._return(request, name, read_cookie(request.headers, cookie))
        except DiscueError as error:
            if request.user is not None:
                raise
            response = await self.show(request, error)
        response.headers.append(cookies.pending(cookie, ""))
        return response

    async def _return(self, request: DashboardRequest, provider: str, cookie: str) -> PageResponse:
        """Sign in the user who comes back from a provider, or connect the account to the user who is signed in."""
        callback = Callback(provider, request.sent_url, request.query, KeptSignIn.of_cookie(cookie))
        if callback.kept is not None and callback.kept.permit and request.user is not None:
            await self._at_provider.connect(callback, request.user.principal)
            return redirect_response(f"{request.base}/account?done=connected")
        finished = await self._at_provider.finish(callback, request.browser)
        return session_response(request, finished.token, safe_path(finished.next_path))

    async def show_invitation(
        self, request: DashboardRequest, error: DiscueError | None = None, token: str = "", email: str = ""
    ) -> PageResponse:
        page = Page("invitation.html", "Choose a password", {"error": error, "token": token, "email": email})
        return self._bare(request, page, error)

    async def accept(self, request: DashboardRequest) -> PageResponse:
        """Set the password. Without one, show who the token invites: the script of the page asks for it."""
        fields, email = await self._form(request), ""
        token = fields.get("token", "").strip()
        refusal: DiscueError | None = None
        try:
            # First: a password that is refused is asked for again, on a page that names the user.
            email = await self._invited(token, request.address)
            if "password" in fields:
                device = await self._set_password(token, fields["password"], request.address)
                response = redirect_response(f"{request.base}{SIGN_IN}?done=password_set")
                response.headers.append(cookies.device(request.url, device))
                return response
        except DiscueError as error:
            if error.status >= 500:
                raise
            refusal = error
        return await self.show_invitation(request, refusal, fields.get("token", ""), email)

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

    async def _form(self, request: DashboardRequest) -> Mapping[str, str]:
        return await fields_of(await self._steps.form(request, FORM_BYTES, request.organization))

    def _bare(self, request: DashboardRequest, page: Page, error: DiscueError | None) -> PageResponse:
        return bare_response(request, page, self._control.clock.now(), 200 if error is None else error.status)

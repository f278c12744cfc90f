"""The page on which a user confirms who they are, and the form that it keeps meanwhile.

A form whose sign-in is too old stays in the browser: its fields become hidden fields of this page. Once the user has
confirmed, a redirect makes the browser send them to the page of the form, as if they came from there. The service
stores nothing, so there is nothing that others could read, or that must expire.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from discue.dashboard.exchange import PageResponse, redirect_response
from discue.dashboard.forms import FORM_BYTES, FieldFaults, fields_of
from discue.dashboard.provider_sign_in import ProviderSignIn
from discue.dashboard.request import bare_response, browser_of, next_path, safe_path, session_response
from discue.dashboard.route import CONFIRMATION_BYTES
from discue.dashboard.steps import PageSteps
from discue.dashboard.users.account import Account
from discue.dashboard.visit import Page, PageUser, Visit
from discue.domain.errors import DiscueError, Forbidden, Unprocessable
from discue.http.services import Services

CONFIRM: Final = "/confirm"
"""The page on which users prove again who they are."""
CONFIRMED: Final = "/confirmed"
"""The page that a tab shows in which a user has signed in again at an identity provider."""

_OWN: Final = "confirm-"
"""The names of the fields of this page begin with it: all others belong to the form that it keeps."""
_PASSWORD: Final = f"{_OWN}password"
_CODE: Final = f"{_OWN}code"
_NEXT: Final = f"{_OWN}next"
_SENDER: Final = f"{_OWN}user"

_NOTHING: Final[Mapping[str, str]] = {}
_TOO_OLD: Final = "Your sign-in is still older than 15 minutes. Sign in again first, then continue."


class KeptForm(NamedTuple):
    """The page that follows once a user has confirmed who they are, and the form that is sent there."""

    next_path: str
    """The path of the page to show, or to send the form to."""
    sender: str = ""
    """The id of the user who has sent the form; empty: no form is kept."""
    fields: Mapping[str, str] = _NOTHING


class ConfirmationPages:
    """Asks users who have signed in too long ago for their password, their second factor, or a new sign-in."""

    def __init__(self, services: Services, steps: PageSteps, at_provider: ProviderSignIn) -> None:
        self._control = services.control
        self._authenticator = services.authenticator
        self._steps = steps
        self._providers = at_provider.providers

    def is_needed(self, user: PageUser) -> bool:
        """Return whether the user has signed in too long ago for a form that can give someone access."""
        return user.details.session.needs_confirmation(self._control.clock.now())

    async def show(self, visit: Visit, user: PageUser) -> PageResponse:
        """Show the page, without a form to keep."""
        return await self._page(visit, user, KeptForm(next_path(visit.query)))

    async def ask_before(self, visit: Visit, user: PageUser, *, form_bytes: int) -> PageResponse:
        """Show the page in place of the one that the request is for, and keep the form that was sent to that."""
        path = safe_path(visit.path)
        if visit.scope.method != "POST":
            return redirect_response(f"{visit.base}{CONFIRM}?next={path}")
        form = await form_fields(await self._steps.form(visit, form_bytes))
        return await self._page(visit, user, KeptForm(path, user.principal.key_public_id, form))

    async def show_confirmed(self, visit: Visit, user: PageUser) -> PageResponse:
        """Show where to go on: the form waits in the tab from which the user went to the identity provider."""
        if self.is_needed(user):
            return redirect_response(visit.base)
        return bare_response(visit, Page("confirmed.html", "Confirmed"))

    async def confirm(self, visit: Visit, user: PageUser) -> PageResponse:
        """Check the password or the code, and make the browser send the form on."""
        most_bytes = FORM_BYTES + CONFIRMATION_BYTES
        fields = await fields_of(await self._steps.form(visit, most_bytes))
        kept = KeptForm(safe_path(fields.get(_NEXT, "")), fields.get(_SENDER, ""), _without_own(fields))
        password, code = fields.get(_PASSWORD, ""), fields.get(_CODE, "").strip()
        if kept.sender and kept.sender != user.principal.key_public_id:
            raise Forbidden("Another user has signed in since this form was sent. Open its page again.")
        if kept.sender and not (password or code):
            if self.is_needed(user):
                return await self._page(visit, user, kept, Unprocessable(_TOO_OLD, code="invalid_value"))
            # The user has signed in again in another tab.
            return redirect_response(visit.base + kept.next_path, resends=True)
        account, browser = self._account(user), browser_of(visit)
        try:
            opened = await (account.confirm_by_code(code, browser) if code else account.confirm(password, browser))
        except DiscueError as error:
            if error.status >= 500:
                raise
            return await self._page(visit, user, kept, error)
        return session_response(visit, opened.token, kept.next_path, device=opened.device, resends=bool(kept.sender))

    async def _page(
        self, visit: Visit, user: PageUser, kept: KeptForm, error: DiscueError | None = None
    ) -> PageResponse:
        if error is None and not self.is_needed(user):
            return redirect_response(visit.base + kept.next_path)
        known, account = user.details.user, self._account(user)
        values = {
            "name": user.name,
            "has_password": account.user.password_hash is not None,
            "has_factor": await account.is_confirmed_by_code(),
            "error": error,
            "faults": FieldFaults(error),
            "kept": kept,
            "providers": self._providers if known is not None and known.has_identity else [],
        }
        status = 200 if error is None else error.status
        return bare_response(visit, Page("confirm.html", "Confirm", values), status)

    def _account(self, user: PageUser) -> Account:
        return Account(self._control, self._authenticator, user.details)


async def form_fields(content: bytes) -> Mapping[str, str]:
    """Return the fields of a form, without those of the page of the confirmation, which may have kept it."""
    return _without_own(await fields_of(content))


def _without_own(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in fields.items() if not name.startswith(_OWN)}

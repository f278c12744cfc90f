"""Users who sign in at the pages of a service, with a password or at an identity provider."""

import html
import re
from base64 import b32decode
from typing import NamedTuple

import httpx

from discue.dashboard.users import second_factor, users
from discue.dashboard.users.second_factor import STEP_MS
from discue.dashboard.users.users import UserFields
from discue.domain.model import User
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService
from tests.support.identity_provider import IdentityProvider

PASSWORD, NEW = "correct horse battery", "quite another one"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


class Member(NamedTuple):
    """A user, and a browser in which they are signed in."""

    user: User
    browser: Browser


class Front:
    """Makes users, and signs them in at the pages of a service."""

    def __init__(self, service: DashboardService, provider: IdentityProvider) -> None:
        self.service = service
        self.provider = provider
        self._made = 0

    def user(self, role: str = "developer") -> User:
        self._made += 1
        fields = UserFields(f"u{self._made}@example.com", role=role, password=PASSWORD)
        control, principal = self.service.control, self.service.principal
        return self.service.run(users.create(control, principal, fields)).user

    def sign_in(self, email: str, password: str = PASSWORD, browser: Browser | None = None) -> httpx.Response:
        browser = browser or self.service.browser(None)
        return browser.post("/sign-in", data={"email": email, "password": password}, headers=SAME_ORIGIN)

    def member(self, role: str = "developer") -> Member:
        user, browser = self.user(role), self.service.browser(None)
        assert self.sign_in(user.email, browser=browser).status_code == 303
        return Member(user, browser)


def is_signed_in(browser: Browser) -> bool:
    return browser.get("/queues").status_code == 200


def text_of(response: httpx.Response) -> str:
    return html.unescape(response.text)


def link_in(response: httpx.Response) -> str:
    found = re.search(r"http://\S+/dashboard/invitation#(\w+)", response.text)
    assert found is not None, response.text
    return found[1]


def code_of(front: Front, secret: str) -> str:
    return second_factor.code_at(b32decode(secret), front.service.control.clock.now() // STEP_MS)


def leave(front: Front, browser: Browser, path: str = "/sign-in/company") -> dict[str, str]:
    """Go to the provider, sign in there, and return the query with which the browser is sent back."""
    response = browser.get(path)
    assert response.status_code == 303, response.text
    return front.provider.authorize(response.headers["location"])


def arrive(browser: Browser, query: dict[str, str]) -> httpx.Response:
    return browser.get("/sign-in/company/callback", params=query, headers={"sec-fetch-site": "cross-site"})


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the form on a page."""
    return {html.unescape(name): html.unescape(value) for name, value in _HIDDEN.findall(page)}

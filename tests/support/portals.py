"""Customers in the portal: sessions that the API creates, and browsers that have opened them."""

import re
from typing import Any, Final

import httpx

from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService

PORTAL_COOKIE: Final = "discue-portal"
FRAME_COOKIE: Final = "discue-portal-frame"
_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Customer(Browser):
    """The browser of a customer. Its paths are below `/portal`."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._root = f"{url}/portal"

    def act(self, path: str, at: str = "", **fields: str) -> httpx.Response:
        """Send the form of a page, as a browser does; `at` is where it sends it, if that is another path."""
        return self.post(at or path, data={"csrf": self.form_token(path), **fields}, headers=SAME_ORIGIN)

    def form_token(self, path: str) -> str:
        page = self.get(path)
        found = _TOKEN.search(page.text)
        assert found is not None, (path, page.status_code, page.text)
        return found[1]


def chosen(*queues: str) -> dict[str, str]:
    """Return the fields of a form in which event types are chosen, by the ids of their queues."""
    return {f"queue-{queue}": "on" for queue in queues}


def sessions_path(service: DashboardService) -> str:
    return f"/organizations/{service.principal.organization_public_id}/portal_sessions"


def own_queue(service: DashboardService, customer: str, **fields: Any) -> str:
    """Create the queue of a customer if there is none, and return its id."""
    with service.api() as api:
        answer = api.put(f"/queues/customers%2F{customer}", json={"customer": customer, **fields})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["queue"]["id"])


def new_session(service: DashboardService, customer: str, *queues: str, **fields: Any) -> dict[str, Any]:
    """Create a session as the back end of an application does, by default for all queues of the customer.

    Returns what the API shows of it.
    """
    with service.api() as api:
        answer = api.post(sessions_path(service), json={"customer": customer, "queues": queues, **fields})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["portal_session"]
    return made


def opened(service: DashboardService, customer: str, *queues: str, **fields: Any) -> Customer:
    """Return the browser of a customer, in a new session."""
    return opened_at(service, new_session(service, customer, *queues, **fields)["url"])


def opened_at(service: DashboardService, url: str, **headers: str) -> Customer:
    """Return a browser that has opened the URL of a session."""
    browser = Customer(service.url, transport=service.transport)
    answer = browser.get(url.removeprefix(f"{service.url}/portal"), headers=headers)
    assert answer.status_code == 303, answer.text
    return browser

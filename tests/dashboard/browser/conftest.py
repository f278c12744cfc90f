"""The browser of these tests: the Chromium of the machine, without requests of its own."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.support.dashboards import DashboardService

try:
    from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright
except ModuleNotFoundError:
    pytest.skip("`make browser` installs what these tests need", allow_module_level=True)

FLAGS: Final = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu")
_PATIENCE_MS: Final = 20_000

# The default is 5 s, which a busy machine takes for a page.
expect.set_options(timeout=_PATIENCE_MS)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed.")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Visitor:
    """A person with a browser. `complaints` is what the browser has to say against the pages."""

    def __init__(self, page: Page, service: DashboardService) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.url = service.url
        self._root = f"{service.url}/dashboard"
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note_foreign)
        self.open(f"/open?code={service.code()}")

    def open(self, path: str) -> None:
        self.page.goto(f"{self._root}{path}")

    def _note(self, message: ConsoleMessage) -> None:
        # Violations of the content security policy are errors, too.
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note_foreign(self, request: Any) -> None:
        if not request.url.startswith(self.url):
            self.complaints.append(f"a request to {request.url}")


@pytest.fixture(autouse=True)
def endpoints_of_customers_end(service: DashboardService) -> Iterator[None]:
    """Delete the endpoints that customers have added: a message's page has its first listeners only."""
    yield
    with service.api() as api:
        for listener in api.get("/listeners").json()["listeners"]:
            if listener.get("customer"):
                path = f"/queues/{listener['queue_id']}/listeners/{listener['id']}"
                api.delete(path).raise_for_status()


Visit = Callable[..., Any]


@pytest.fixture
def visiting(chromium: Any, service: DashboardService) -> Callable[..., Any]:
    @contextmanager
    def visit(*, theme: str = "light", width: int = 1_280) -> Iterator[Visitor]:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        try:
            visitor = Visitor(context.new_page(), service)
            yield visitor
            assert visitor.complaints == []
        finally:
            context.close()

    return visit

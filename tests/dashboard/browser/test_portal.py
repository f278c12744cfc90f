"""The portal in Chromium: in a frame on a page of another site, and every page of it in both themes."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from tests.support.dashboard_shop import HOSTS, Shop
from tests.support.dashboards import DashboardService
from tests.support.portals import new_session, own_queue, sessions_path
from tests.support.wrapped_ids import WRAPPED_IDS

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_URL: Final = f"http://{HOSTS}:9001/acme"
_LONG: Final = "hooks/of-an-endpoint-whose-url-is-wider-than-the-screen-of-a-phone"
_SCHEMA: Final = {
    "type": "object",
    "required": ["order"],
    "properties": {"order": {"type": "integer"}, "total": {"type": "number", "minimum": 0}},
}
_THEME: Final = {"accent": "#ffd400", "font": "Georgia, serif", "radius": 14}


class Site:
    """A site of another origin, with one page. It is `localhost`, and the service is `127.0.0.1`."""

    def __init__(self) -> None:
        site = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(site.html.encode() if self.path == "/" else b"")

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        self.html = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.origin = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def sibling(self) -> str:
        """The origin under a name at which it is of the same site as the service."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def embed(self, service: DashboardService, url: str) -> None:
        """Show the portal on the page, as its documentation says."""
        self.html = (
            '<!doctype html><html lang="en"><title>Settings</title><link rel="icon" href="data:,"><h1>Webhooks</h1>'
            f'<script src="{service.url}/portal/embed.js" data-url="{url}"></script><p id="below">Below it</p>'
        )


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@contextmanager
def embedding(service: DashboardService, *origins: str) -> Iterator[None]:
    """Let pages of these origins embed the portal."""
    settings = sessions_path(service).removesuffix("_sessions")
    with service.api() as api:
        api.put(settings, json={"frame_ancestors": list(origins)}).raise_for_status()
        yield
        api.put(settings, json={"frame_ancestors": []}).raise_for_status()


@pytest.fixture
def window(chromium: Any) -> Callable[..., Any]:
    @contextmanager
    def opened(*, theme: str = "light", width: int = 1_280, scripted: bool = True) -> Iterator[Any]:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=scripted
        )
        page, complaints = context.new_page(), []
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.complaints = complaints
        try:
            yield page
        finally:
            context.close()

    return opened


@pytest.mark.parametrize("width", [1_280, 390])
def test_customer_adds_and_tests_an_endpoint_in_a_frame_of_another_site(
    service: DashboardService, site: Site, window: Callable[..., Any], width: int
) -> None:
    own_queue(service, f"framed-{width}", json_schema=_SCHEMA)
    url = new_session(service, f"framed-{width}", theme=_THEME)["url"]
    site.embed(service, url)
    with embedding(service, "https://app.example.com", site.origin), window(width=width) as page:
        page.goto(site.origin)
        frame = page.frame_locator("iframe")
        frame.get_by_role("link", name="Add an endpoint", exact=True).click()
        frame.get_by_label("URL").fill(_URL)
        frame.get_by_role("button", name="Add the endpoint").click()
        frame.get_by_text("shown only this once").wait_for()
        frame.get_by_role("link", name="Continue").click()
        frame.get_by_role("link", name="Disable").click()
        frame.get_by_role("button", name="Disable the endpoint").click()
        frame.get_by_text("It is disabled.").wait_for()
        frame.get_by_role("link", name="Event types").click()
        frame.get_by_role("heading", name="Example").wait_for()
        # As high as its content: neither it nor the frame scrolls.
        page.wait_for_function("document.querySelector('iframe').clientHeight > 200 && innerHeight > 0", timeout=20_000)
        inner = page.frames[1]
        inner.wait_for_load_state()
        inner.wait_for_function("innerHeight >= document.documentElement.getBoundingClientRect().height")
        assert inner.evaluate("getComputedStyle(document.body).fontFamily").startswith("Georgia")
        assert page.evaluate(_OVERFLOW) <= 0
        assert page.complaints == []


@pytest.mark.parametrize("name", ["origin", "sibling"])
def test_frame_and_tab_of_one_browser_show_their_own_sessions(
    service: DashboardService, site: Site, window: Callable[..., Any], name: str
) -> None:
    origin = getattr(site, name)
    for customer in (f"framed-{name}", f"in-a-tab-{name}"):
        own_queue(service, customer, json_schema=_SCHEMA)
    with embedding(service, origin), window() as page:
        for _ in range(2):
            page.goto(new_session(service, f"in-a-tab-{name}")["url"])
            site.embed(service, new_session(service, f"framed-{name}", theme=_THEME)["url"])
            page.goto(origin)
            page.frame_locator("iframe").get_by_role("link", name="Event types").click()
            page.frame_locator("iframe").get_by_role("heading", name="Example").wait_for()
            # Elements count as visible before their style sheets have arrived.
            page.frames[1].wait_for_load_state()
            assert page.frames[1].evaluate("getComputedStyle(document.body).fontFamily").startswith("Georgia")
            page.goto(f"{service.url}/portal")
            page.get_by_text("No endpoints yet").wait_for()
            assert not page.evaluate("getComputedStyle(document.body).fontFamily").startswith("Georgia")
        assert page.complaints == []


def test_page_of_a_site_that_was_not_named_shows_nothing(
    service: DashboardService, site: Site, window: Callable[..., Any]
) -> None:
    site.embed(service, new_session(service, "acme")["url"])
    with embedding(service, "https://app.example.com"), window() as page:
        with page.expect_event("console", lambda message: "frame-ancestors" in message.text):
            page.goto(site.origin)
        assert "Endpoints" not in page.frames[-1].content()


@pytest.mark.parametrize("scripted", [True, False], ids=["with keys", "without a script"])
def test_customer_redelivers_selected_messages(
    service: DashboardService, shop: Shop, window: Callable[..., Any], *, scripted: bool
) -> None:
    customer = f"selecting-{scripted}"
    endpoint, _ = _endpoint_with_traffic(service, shop.queue, customer, missed=3)
    with window(scripted=scripted) as page:
        page.goto(new_session(service, customer, shop.queue)["url"])
        page.goto(f"{service.url}/portal{endpoint}/missed")
        if scripted:
            assert page.locator("time").first.get_attribute("title").endswith(" here")
            page.get_by_role("button", name="Shortcuts").click()
            page.get_by_role("dialog").get_by_text("Select the row").wait_for()
            for key in ("Escape", "j", "x", "j", "x"):
                page.keyboard.press(key)
            page.get_by_text("2 selected").first.wait_for()
            page.keyboard.press("r")
        else:
            for box in page.locator("[data-pick]").all()[:2]:
                box.check()
            page.get_by_role("button", name="Redeliver selected").click()
        page.get_by_role("button", name="Redeliver 2 messages").click()
        page.get_by_text("The messages are being sent again.").wait_for()
        assert page.complaints == []


@pytest.mark.parametrize("width", [1_280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_of_the_portal_is_accessible_and_fits(
    service: DashboardService, window: Callable[..., Any], theme: str, width: int
) -> None:
    customer = f"{theme}-{width}"
    queue = own_queue(service, customer, json_schema=_SCHEMA)
    endpoint, message = _endpoint_with_traffic(service, queue, customer)
    paths = ["", "/endpoints/new", "/event-types", endpoint, message]
    paths += [
        f"{endpoint}/{name}" for name in ("missed", "missed/redeliver", "jobs", "secrets", "edit", "disable", "delete")
    ]
    paths += [f"{endpoint}/{name}" for name in ("rotate", "test", "redeliver", "replay?from=2020-01-01T00:00")]
    axe, faults = Axe(), []
    with window(theme=theme, width=width) as page:
        page.goto(new_session(service, customer, theme=_THEME)["url"])
        for path in paths:
            page.goto(f"{service.url}/portal{path}")
            found = axe.run(page).response["violations"]
            faults += [(path, each["id"], node["html"]) for each in found for node in each["nodes"]]
            if page.evaluate(_OVERFLOW) > 0:
                faults.append((path, "wider than the screen", ""))
            faults += [(path, "an id on several lines", each) for each in page.evaluate(WRAPPED_IDS)]
        assert faults == []
        assert page.complaints == []


def test_customer_of_a_shared_queue_sees_and_does_only_what_concerns_them(
    service: DashboardService, shop: Shop, window: Callable[..., Any]
) -> None:
    own = own_queue(service, "sharing", json_schema=_SCHEMA)
    foreign_queue = own_queue(service, "stranger", json_schema={**_SCHEMA, "title": "Orders of the stranger"})
    endpoint, message = _endpoint_with_traffic(service, shop.queue, "sharing", missed=1)
    beside, _ = _endpoint_with_traffic(service, shop.queue, "stranger", missed=1)
    foreign, foreign_message = _endpoint_with_traffic(service, foreign_queue, "stranger")
    with window() as page:
        page.goto(new_session(service, "sharing", own, shop.queue, foreign_queue)["url"])
        page.get_by_role("link", name=f"/sharing/{_LONG}").wait_for()
        assert page.get_by_role("link", name="Add an endpoint").count() == 0
        assert "stranger" not in page.content()
        page.get_by_role("link", name="Event types").click()
        page.get_by_role("heading", name="Event types").wait_for()
        assert "stranger" not in page.content()
        page.goto(f"{service.url}/portal{message}")
        assert "stranger" not in page.content()
        page.goto(f"{service.url}/portal{endpoint}")
        actions = page.locator(".head .actions a").all_inner_texts()
        assert actions == ["Send a test", "Redeliver missed", "Disable"]
        page.get_by_role("link", name="Redeliver missed").click()
        # Both messages of the shared queue were sent to it.
        page.get_by_role("button", name="Redeliver 2 messages").click()
        page.get_by_text("The messages are being sent again.").wait_for()
        page.get_by_role("link", name="Disable").click()
        page.get_by_role("button", name="Disable the endpoint").click()
        page.get_by_text("It is disabled.").wait_for()
        assert page.complaints == []
        for path in (beside, foreign, foreign_message, f"{endpoint}/edit", f"{endpoint}/replay", "/endpoints/new"):
            status = page.goto(f"{service.url}/portal{path}").status
            assert status in {403, 404}, path
            assert "stranger" not in page.content().replace(path, ""), path


@pytest.mark.parametrize("width", [1_920, 1_280, 390])
def test_line_below_the_header_reaches_both_ends_of_the_page(
    service: DashboardService, shop: Shop, window: Callable[..., Any], width: int
) -> None:
    with window(width=width) as page:
        page.goto(new_session(service, "acme", shop.queue)["url"])
        header, shown = page.locator("header.top").bounding_box(), page.evaluate("document.documentElement.clientWidth")
        assert (header["x"], header["width"]) == (0, shown)
        assert page.locator("header.top").evaluate("each => getComputedStyle(each).borderBottomWidth") == "1px"
        # Its content stays in the column of the page.
        tabs, title = page.locator("header.top .tabs").bounding_box(), page.locator("main h1").bounding_box()
        assert tabs["x"] == pytest.approx(title["x"], abs=1)


def _endpoint_with_traffic(service: DashboardService, queue: str, customer: str, missed: int = 0) -> tuple[str, str]:
    with service.api() as api:
        path = f"/queues/{queue}/listeners"
        fields: dict[str, Any] = {"notify_url": f"http://{HOSTS}:9003/{customer}/{_LONG}", "customer": customer}
        if missed:
            fields["retry"] = {"attempts": 1}
        listener = api.post(path, json=fields).json()["listener"]["id"]
        answers = [
            api.post(f"/queues/{queue}/messages", json={"data": {"order": 4_999, "total": 1}})
            for _ in range(missed or 1)
        ]
        message = answers[-1].json()["message"]["id"]
    service.settle()
    assert re.fullmatch(r"[0-9A-Za-z]{21}", message)
    return f"{path}/{listener}", f"/queues/{queue}/messages/{message}"

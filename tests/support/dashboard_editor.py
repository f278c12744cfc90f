"""A person who edits resources on pages."""

import html
import re
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, Browser


class _Fields(HTMLParser):
    """The fields of the form on a page, with their texts."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._is_inside = False
        self._list = ""
        """The list that was opened last."""
        self._text = ""
        """The text that is open now."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_inside = given.get("class") == "form"
        if not self._is_inside:
            return
        if tag == "input" and (given["type"] != "checkbox" or "checked" in given):
            self.values[given["name"]] = given.get("value", "on")
        elif tag == "textarea":
            self._text = given["name"]
            self.values[self._text] = ""
        elif tag == "select":
            self._list = given["name"]
        elif tag == "option" and ("selected" in given or self._list not in self.values):
            self.values[self._list] = given["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False
        self._text = ""

    def handle_data(self, data: str) -> None:
        if self._text:
            self.values[self._text] += data


class Editor:
    """A person with the forms of a browser, and an API key to see what is stored."""

    def __init__(self, browser: Browser, api: httpx.Client, shop: Shop) -> None:
        self.browser = browser
        self.api = api
        self.shop = shop

    def version(self, path: str) -> str:
        found = re.search(r'name="version" value="([^"]+)"', self.browser.get(path).text)
        assert found is not None
        return found[1]

    def form(self, path: str) -> dict[str, str]:
        """Return the fields of the form on a page, as a browser sends them if nothing is changed."""
        return self.shown(self.browser.get(path))

    def shown(self, page: httpx.Response) -> dict[str, str]:
        """Return the fields of the form that a page shows."""
        fields = _Fields()
        fields.feed(page.text)
        return fields.values

    def fault(self, page: httpx.Response, field: str) -> str:
        """Return what a page that is shown again says at a field."""
        found = re.search(rf'id="{field}-fault">(.+?)</(?:p|div)>', page.text, re.DOTALL)
        assert found is not None, html.unescape(page.text)
        assert f'aria-describedby="{field}-fault"' in page.text
        return html.unescape(found[1])

    def post(self, path: str, /, **form: str) -> httpx.Response:
        return self.browser.post(path, data=form, headers=SAME_ORIGIN)

    def done(self, path: str, /, **form: str) -> str:
        """Send a form that must be accepted, and return the path that it leads to."""
        answer = self.post(path, **form)
        assert answer.status_code == 303, html.unescape(answer.text)
        return answer.headers["location"].partition("dashboard")[2].partition("?")[0]

    def stored(self, path: str) -> dict[str, Any]:
        """Return the resource at a path of the API, which is that of its page."""
        answer = self.api.get(path).raise_for_status().json()
        return next(value for name, value in answer.items() if name != "_links")

"""The documentation that the service serves: pages, contents, search."""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import httpx
import pytest

from discue.api.openapi.document import document_of
from discue.domain.errors import REASONS
from discue.guides import layout
from discue.guides.library import OPERATIONS, Library, documentation_folder
from discue.guides.search import SearchEntry
from discue.product import ROUTES
from tests.support.served_api import Cast

DOCS = Path(__file__).parents[3] / "docs"
LIBRARY = Library(documentation_folder())
ERRORS = [f"docs/errors/{code}" for code in REASONS]
PAGES = [*LIBRARY.files, OPERATIONS]
LARGEST_BYTES = 100_000


class Page(HTMLParser):
    """The links and ids of a page, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.mismatched: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.mismatched += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += filter(None, [given.get("id")])
        if tag == "link":
            self.loaded += [f"{given['rel']} {given['href']}"]
        else:
            self.links += filter(None, [given.get("href")])
        self.loaded += filter(None, [given.get("src")])
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.mismatched.append(tag)


@pytest.fixture(scope="module")
def entries() -> list[SearchEntry]:
    return LIBRARY.search_entries()


@pytest.fixture(scope="module")
def pages(service: Any) -> Mapping[str, tuple[httpx.Response, Page]]:
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        answers = {path: client.get(f"/{path}") for path in (*PAGES, *ERRORS)}
    return {path: (answer, Page(answer.text)) for path, answer in answers.items()}


def test_every_page_is_small_and_whole_and_loads_nothing_but_its_own_icon(
    pages: Mapping[str, tuple[httpx.Response, Page]],
) -> None:
    for path, (answer, page) in pages.items():
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
        assert len(gzip.compress(answer.content, 9)) <= LARGEST_BYTES, path
        assert page.mismatched == [], path
        assert [each.partition(",")[0] for each in page.loaded] == ["icon data:image/svg+xml;base64"], path
        assert len(set(page.ids)) == len(page.ids), path


def test_policy_allows_the_style_and_the_script_of_the_pages_only(
    pages: Mapping[str, tuple[httpx.Response, Page]],
) -> None:
    answer, _ = pages["docs"]
    policy = dict(part.partition(" ")[::2] for part in answer.headers["content-security-policy"].split("; "))
    for element, content in re.findall(r"<(style|script)[^>]*>(.*?)</\1>", answer.text, re.DOTALL):
        assert policy[f"{element}-src"] == f"'sha256-{layout._digest(content)}'"
    assert (policy["default-src"], policy["connect-src"], policy["img-src"]) == ("'none'", "'self'", "data:")


@pytest.mark.parametrize("prefix", ["http://localhost/", "https://example.com/messaging/v1/"])
def test_links_lead_to_pages_and_sections(pages: Mapping[str, tuple[httpx.Response, Page]], prefix: str) -> None:
    """Links are relative, so that they work below the prefix of a proxy, and of the version."""
    known = {prefix + path: set(page.ids) for path, (_, page) in pages.items()}
    known |= {f"{prefix}openapi.json": set(), f"{prefix}dashboard": set()}
    for path, (_, page) in pages.items():
        for link in page.links:
            target, anchor = urldefrag(urljoin(prefix + path, link))
            if urlsplit(link).scheme:
                assert target.startswith("https://"), (path, link)
            else:
                assert target in known, (path, link)
                assert not anchor or anchor in known[target], (path, link)


def test_contents_list_every_page() -> None:
    listed = {entry.path for path in LIBRARY.files for entry in _flat(LIBRARY.contents_for(path))}
    assert listed == {*PAGES} - {layout.ROOT}


def _flat(groups: Any) -> Iterator[Any]:
    for group in groups:
        for entry in group.entries:
            yield entry
            yield from entry.below


@pytest.mark.parametrize("part", ["docs/reference", "docs/architecture"])
def test_contents_list_the_pages_of_a_part_by_their_titles(entries: Sequence[SearchEntry], part: str) -> None:
    (entry,) = (entry for group in LIBRARY.contents_for(part) for entry in group.entries if entry.path == part)
    titles = {search.path: search.title for search in entries}
    assert entry.below
    assert [(each.path, each.title) for each in entry.below] == [(each.path, titles[each.path]) for each in entry.below]


def test_contents_mark_the_page_that_is_shown_and_the_page_that_an_error_belongs_to(
    cast: Cast, pages: Mapping[str, tuple[httpx.Response, Page]]
) -> None:
    marked = re.compile(r'<a href="([^"]*)" aria-current="(\w+)">')
    assert marked.findall(pages["docs/delivery"][0].text) == [("../docs/delivery", "page")]
    assert marked.findall(cast.nobody.get("/docs/errors/not_found").text) == [("../../docs/reference/errors", "true")]


def test_pages_lead_to_the_next_one(pages: Mapping[str, tuple[httpx.Response, Page]]) -> None:
    answer, _ = pages["docs/reference/queues"]
    assert '<a rel="next" href="../../docs/reference/messages">' in answer.text
    assert '<a rel="prev" href="../../docs/reference">' in answer.text


def test_pages_are_shown_in_the_theme_of_the_browser(cast: Cast) -> None:
    for chosen, shown in (("dark", "dark"), ("light", "light"), ('"><b>', "auto")):
        html = cast.nobody.get("/docs/delivery", headers={"cookie": f"discue-theme={chosen}"}).text
        assert f'<html lang="en" data-theme="{shown}">' in html
        assert f">Theme: {shown}</button>" in html


def test_unknown_page_is_not_found(cast: Cast) -> None:
    for path in ("/docs/nothing", "/docs/reference/nothing", "/docs/reference/queues/more", "/docs/README.md"):
        assert cast.nobody.get(path).status_code == 404


def test_index_has_every_section_operation_and_error_once(
    entries: Sequence[SearchEntry], pages: Mapping[str, tuple[httpx.Response, Page]]
) -> None:
    once = document_of(ROUTES, "/v1", aliases=False)
    paths = [entry.path for entry in entries]
    assert len(set(paths)) == len(paths)
    for path in paths:
        page, _, anchor = path.partition("#")
        assert not anchor or anchor in pages[page][1].ids
    operations = {f"{OPERATIONS}#{each['operationId']}" for item in once["paths"].values() for each in item.values()}
    assert operations == {path for path in paths if path.startswith(f"{OPERATIONS}#")}
    assert {*LIBRARY.files, *ERRORS} <= {path.partition("#")[0] for path in paths}


def opened(service: Any, path: str) -> httpx.Response:
    """Open a path as a browser does."""
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    return httpx.get(service.url + path, headers={"accept": accept}, trust_env=False)


MISSING = (
    "/docs/nothing",
    "/docs/reference/queus/more/",
    "/v1/docs/a/b",
    "/docs/errors/no",
    "/dashboard/x",
    "/docs/<b>",
)


@pytest.mark.parametrize("path", MISSING)
def test_unknown_path_is_a_page_for_browsers_whose_links_work(
    service: Any, pages: Mapping[str, tuple[httpx.Response, Page]], path: str
) -> None:
    answer = opened(service, path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert dict(layout.SECURITY_HEADERS).items() <= dict(answer.headers).items()
    page = Page(answer.text)
    assert page.mismatched == []
    known = {f"/{each}" for each in (*pages, "dashboard")}
    prefix = "/v1" if path.startswith("/v1") else ""
    targets = [urlsplit(urljoin(path, link)).path for link in page.links if not link.startswith("#")]
    assert [each for each in targets if each.removeprefix(prefix) not in known] == []
    assert f"{prefix}/docs" in targets


def test_unknown_path_is_an_error_for_other_clients(cast: Cast, service: Any) -> None:
    for accept in ("*/*", ""):
        answer = cast.nobody.get("/docs/nothing", headers={"accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    # Not a place of pages, and a path that would make links long.
    assert opened(service, f"/docs{'/x' * 1_000}").json()["code"] == "no_route"
    assert cast.nobody.get("/nothing", headers={"accept": "text/html"}).json()["code"] == "no_route"


def test_unknown_path_leads_to_similar_pages(service: Any) -> None:
    html = opened(service, "/docs/verify-signatures").text
    assert '<a href="../docs/delivery#verify-the-signature">' in html
    assert "There is no page /docs/verify-signatures. /docs lists all pages." in html

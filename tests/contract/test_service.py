"""Operations that need no key."""

import re

import pytest

from tests.contract.caller import Caller
from tests.contract.reference import DOCUMENT, OPERATIONS, covers


@pytest.fixture
def nobody(operator: Caller) -> Caller:
    return operator.with_key(None)


def test_the_root_says_what_this_is(nobody: Caller) -> None:
    shown = nobody.get("/")
    assert shown["name"]
    assert shown["version"]
    assert {"self", "queues"} <= set(shown["_links"])


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_service_is_live_and_ready(nobody: Caller, path: str) -> None:
    assert nobody.get(path)["status"]


def test_the_document_is_openapi_3_1(nobody: Caller) -> None:
    shown = nobody.ask("GET", "/openapi.json").json()
    assert shown["openapi"].startswith("3.1")
    assert set(shown["paths"]) == set(DOCUMENT["paths"])


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/api", "/docs/quickstart", "/docs/reference/queues", "/docs/errors/not_found"]
)
def test_the_pages_are_html_from_this_service_alone(nobody: Caller, path: str) -> None:
    answer = nobody.ask("GET", path, headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert not any(word in answer.text for word in ("src=", "@import", "url("))
    assert [link[:11] for link in re.findall(r'<link [^>]*href="([^"]*)"', answer.text)] == ["data:image/"]


@pytest.mark.parametrize(
    "accept", ["application/json", "application/problem+json", "application/json, */*", "application/*"]
)
def test_code_is_explained_in_json_to_programs(nobody: Caller, owner: Caller, accept: str) -> None:
    refused = owner.refused(404, "GET", "/queues/nothing")
    answer = nobody.ask("GET", refused["type"], headers={"Accept": accept})
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "accept")
    assert answer.json()["error"] == {
        "code": "not_found",
        "title": "Not Found",
        "status": 404,
        "meaning": "The resource does not exist.",
        "remedy": "Check the URL. Resources of other organizations are not found either.",
    }
    assert answer.json()["_links"]["self"]["href"] == refused["type"]


@pytest.mark.parametrize(
    "accept", ["*/*", "text/html", "application/json, text/html", "application/json;q=0.5, text/*"]
)
def test_code_is_explained_in_html_to_browsers(nobody: Caller, accept: str) -> None:
    answer = nobody.ask("GET", "/docs/errors/not_found", headers={"Accept": accept})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "accept" in answer.headers["vary"].split(", ")


@pytest.mark.parametrize(
    "accept",
    ["application/json", "application/problem+json", "image/png", "text/html;q=0", "application/json, text/html;q=0.9"],
)
@pytest.mark.parametrize("path", ["/docs/nowhere", "/docs/no/where", "/docs/errors/nowhere", "/docs/a/b/c"])
def test_page_that_does_not_exist_is_a_404_in_json(nobody: Caller, path: str, accept: str) -> None:
    answer = nobody.ask("GET", path, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    is_problem = accept == "application/problem+json"
    assert answer.headers["content-type"] == ("application/problem+json" if is_problem else "application/json")


@pytest.mark.parametrize("accept", ["application/json", "image/png"])
def test_page_is_not_acceptable_without_html(nobody: Caller, accept: str) -> None:
    refused = nobody.refused(406, "GET", "/docs/quickstart", headers={"Accept": accept})
    assert (
        refused["detail"]
        == "This page is HTML, which the Accept header excludes. Accept `text/html`, or omit the header."
    )


@covers("GET /docs/search 200")
def test_search_leads_to_pages(nobody: Caller) -> None:
    results = nobody.ask("GET", "/docs/search?q=retries", headers={"Accept": "text/html"}).text.partition("<h1>")[2]
    links = re.findall(r'<a href="\.\./([^"#]*)', results)
    assert links[0] == "docs/delivery"
    assert all(nobody.ask("GET", f"/{path}").status_code == 200 for path in links)


@covers("GET /docs/{page} 404", "GET /docs/{part}/{page} 404")
@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/reference/nothing", "/docs/nothing/queues"])
def test_unknown_page_is_not_found(nobody: Caller, path: str) -> None:
    assert "/docs lists" in nobody.refused(404, "GET", path)["detail"]


@covers("GET /docs/errors/{code} 404", "errors.md# Codes")
def test_each_code_has_a_page_and_no_other_does(nobody: Caller, owner: Caller) -> None:
    problem = owner.refused(422, "POST", "/queues", {"alias": "x!"})
    assert problem["type"].endswith(f"/docs/errors/{problem['code']}")
    assert nobody.ask("GET", problem["type"]).status_code == 200
    listed = {code for each in OPERATIONS for codes in each.described["x-error-codes"].values() for code in codes}
    for code in listed:
        assert code in nobody.ask("GET", f"/docs/errors/{code}").text
    nobody.refused(404, "GET", "/docs/errors/no_such_code")

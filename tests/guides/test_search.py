"""The search of the documentation: its results and their order."""

import asyncio
import re
import threading

import httpx
import pytest

from discue.domain.errors import Overloaded
from discue.guides.library import Library, documentation_folder
from discue.guides.routes import search_values
from discue.guides.search import LONGEST_QUERY, SearchEntry, Searches, SearchIndex, match_expression
from tests.support.served_api import Cast

QUESTIONS = {
    "rotate secret": "docs/reference/secrets#rotate-a-secret",
    "verify signature python": "docs/delivery#verify-the-signature",
    "retry schedule": "docs/delivery#retries",
    "missed messages": "docs/delivery#missed-messages",
    "dead letter": "docs/delivery#missed-messages",
    "postgres": "docs/deploy#postgresql-settings",
    "backup": "docs/backup",
    "restore database": "docs/backup#restoring",
    "idempotency": "docs/reference/idempotency",
    "rate limit": "docs/reference/limits#rate-limits",
    "env variable port": "docs/settings",
    "why is my message waiting": "docs/delivery#why-a-message-waits",
    "listener 410": "docs/delivery#respond",
    "docker": "docs/deploy#containers",
    "kubernetes": "docs/deploy#kubernetes",
    "upgrading": "docs/upgrading",
    "create a queue": "docs/reference/queues",
    "delay a message": "docs/scheduling#delayed-messages",
    "cron": "docs/reference/schedules",
    "order of messages": "docs/ordering",
    "fifo": "docs/ordering",
    "duplicate messages": "docs/delivery#duplicates",
    "api key scopes": "docs/reference/api_keys#scopes",
    "single sign-on": "docs/users",
    "reset password": "docs/users#passwords-and-links",
    "pull without public endpoint": "docs/pulling",
    "how do I test my handler?": "docs/testing",
    "prometheus alerts": "docs/monitoring#alerts",
    "flask": "docs/webhooks#other-frameworks",
    "rotate encryption key": "docs/deploy#encryption-keys",
    "local development tunnel": "docs/listen",
    "replay old messages": "docs/replay",
    "filter by payload": "docs/filters",
    "reverse proxy nginx": "docs/deploy#a-proxy-in-front",
    "throughput": "docs/scaling",
    "health checks": "docs/deploy#health-checks",
    # Names win.
    "DISCUE_PORT": "docs/settings#network-and-processes",
    "port": "docs/settings#network-and-processes",
    "max_waiting_bytes": "docs/settings#limits",
    "what is allow_private_targets": "docs/settings#access-and-encryption",
    "webhook-id": "docs/delivery",
    "process_max_fds": "docs/monitoring#metrics",
    "POST /queues": "docs/api#create_queue",
    "/v1/queues/orders/messages": "docs/api#create_queue_message",
    "create_queue": "docs/api#create_queue",
    "dashboard": "docs/dashboard",
    "locked_out": "docs/errors/locked_out",
}
ALONE = {"DISCUE_PORT", "port", "max_waiting_bytes", "POST /queues", "create_queue", "locked_out"}
"""Queries for a name: what it stands for is the first result."""


@pytest.fixture(scope="module")
def index() -> SearchIndex:
    return SearchIndex(Library(documentation_folder()).search_entries())


def results_of(answer: httpx.Response) -> list[str]:
    results = answer.text.partition('<ol class="results">')[2].partition("</ol>")[0]
    return re.findall(r'<a href="\.\./([^"]*)"', results)


@pytest.mark.parametrize(("query", "expected"), QUESTIONS.items())
def test_answer_is_among_the_first_three(cast: Cast, query: str, expected: str) -> None:
    found = results_of(cast.nobody.get("/docs/search", params={"q": query}))
    first = found[: 1 if query in ALONE else 3]
    # A page as a whole may be reached by any of its sections.
    assert any(path == expected or path.partition("#")[0] == expected for path in first), found
    assert len(found) <= 20


def test_page_shows_the_query_and_its_results(cast: Cast) -> None:
    html = cast.nobody.get("/docs/search?q=Retries").text
    assert 'name="q"' in html
    assert 'value="Retries"' in html
    assert re.search("<mark>retr\\w+</mark>", html)
    assert "<p>Search for words" in cast.nobody.get("/docs/search").text
    nothing = cast.nobody.get("/docs/search", params={"q": "<xyzzy>"}).text
    assert "Nothing found for “&lt;xyzzy&gt;”." in nothing
    assert 'value="&lt;xyzzy&gt;"' in nothing


@pytest.mark.parametrize(
    "query", ["", "   ", "(.*", "?", "\0", "%", "the", '"', "a AND", "NEAR(a b, 2)", "{title}: ^a*", "NOT"]
)
def test_any_text_is_a_query(cast: Cast, query: str) -> None:
    assert cast.nobody.get("/docs/search", params={"q": query}).status_code == 200


def test_text_of_entries_is_escaped() -> None:
    index = SearchIndex([SearchEntry("docs/x", "Page", "<i>", "a <b>bold</b> word & more")])
    _, html = search_values("bold", index.search("bold"))
    assert b"<strong>&lt;i&gt;</strong>" in html
    assert b"a &lt;b&gt;<mark>bold</mark>&lt;/b&gt; word &amp; more" in html


def test_route_without_words_marks_nothing() -> None:
    index = SearchIndex([SearchEntry("docs/api#get_service", "Service", "Get the service", "GET / now", route="GET /")])
    assert [each.excerpt for each in index.search("/")] == ["GET / now"]


def test_any_character_can_be_in_a_query() -> None:
    index = SearchIndex([SearchEntry("docs/x", "Page", "Title", "text")])
    for start in range(0, 0x10000, 64):
        query = " ".join(map(chr, range(start, start + 64)))
        assert len(index.search(f"{query} text")) <= 1
        assert index.search(f"text {query}")


def test_search_renders_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Library, "rendered")
    assert SearchIndex(Library(documentation_folder()).search_entries()).search("retries")


HOSTILE = (
    " ".join("a" * length for length in range(1, 200)),
    "con dis mes que lis del req res set org top cha",
    "mes_con dis_que lis_del req_res set_org",
    "_".join("a" * 100),
    "the-a-" * 1_000 + "b",
    "the of a to is and in by " * 9,
    "aaa " * 1_000,
    "/v1" * 1_000,
    '"' * 1_000,
)


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_query_looks_for_at_most_eight_words(query: str) -> None:
    words = re.findall(r"[^\W_]+", match_expression(query[:LONGEST_QUERY]).replace("OR", ""))
    assert len(words) <= 8
    assert not [word for word in words if len(word) > LONGEST_QUERY]


def test_end_of_a_long_query_is_ignored(index: SearchIndex) -> None:
    assert index.search("x" * LONGEST_QUERY + " retries") == []
    assert index.search("retries" + " x" * LONGEST_QUERY)


async def test_searches_beyond_a_number_are_refused_and_the_others_are_answered() -> None:
    entries = [SearchEntry("docs/x", "Page", "Title", "text")]
    built: list[SearchIndex] = []
    all_asked = threading.Event()

    def build() -> SearchIndex:
        # A search that ends before the next one is asked for makes room for it.
        all_asked.wait()
        built.append(SearchIndex(entries))
        return built[-1]

    searches = Searches(build)
    asked = asyncio.gather(*(searches.search("text") for _ in range(40)), return_exceptions=True)
    asyncio.get_running_loop().call_soon(all_asked.set)
    found = await asked
    assert sum(isinstance(each, Overloaded) for each in found) == 8
    assert sum(isinstance(each, list) and each[0].entry is entries[0] for each in found) == 32
    assert len(built) == 1
    assert await searches.search("nothing") == []

"""Links between the dashboard and the documentation."""

import re
from pathlib import Path

import httpx

from discue.dashboard import render
from discue.guides.layout import SEARCH
from discue.guides.library import Library, documentation_folder
from tests.support.dashboards import DashboardService

TEMPLATES = Path(render.__file__).with_name("templates")
LINK = re.compile(r"{{ docs }}([^\"#]*)(?:#([^\"]*))?\"")


def test_documentation_links_to_the_dashboard_next_to_it(service: DashboardService) -> None:
    assert '<a href="../dashboard">' in httpx.get(f"{service.url}/docs/delivery", trust_env=False).text
    # A path with a version has no dashboard next to it.
    assert '<a href="../dashboard" hidden>' in httpx.get(f"{service.url}/v1/docs/delivery", trust_env=False).text


def test_links_of_templates_lead_to_pages_and_sections() -> None:
    library = Library(documentation_folder())
    known = {f"/{path}" for path in (SEARCH, *(entry.path for entry in library.search_entries()))}
    links = [link for file in TEMPLATES.rglob("*.html") for link in LINK.findall(file.read_text("utf-8"))]
    assert len(links) >= 9
    assert [link for link in links if f"/docs{link[0]}{link[1] and f'#{link[1]}'}" not in known] == []

"""Takes pictures of the dashboard of `discue demo`, for the documentation or to look at.

python -m tools.screenshots            writes docs/images/*.png
python -m tools.screenshots --all DIR  writes every page, in both themes, wide and narrow
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / "docs" / "images"
LARGEST_BYTES: Final = 160_000
WIDE, NARROW = 1_280, 390

_FLAGS: Final = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu")
_LINK: Final = re.compile(r"Dashboard: (http://\S+)/open\?code=(\S+)")
_PATIENCE_MS: Final = 20_000


Theme = Literal["light", "dark"]


class Picture(NamedTuple):
    """A picture in the documentation."""

    name: str
    page: str
    theme: Theme
    width: int
    height: int = 800


PICTURES: Final = (
    Picture("overview-light", "overview", "light", WIDE),
    Picture("overview-dark", "overview", "dark", WIDE),
    Picture("overview-phone", "overview", "light", NARROW, 844),
    Picture("message-light", "message", "light", WIDE),
    Picture("message-dark", "message", "dark", WIDE),
    Picture("message-phone", "message", "dark", NARROW, 844),
)

_FIXED: Final = {
    "overview": "",
    "missed": "/missed",
    "jobs": "/jobs",
    "replays": "/jobs/replays",
    "events": "/events",
    "queues": "/queues",
    "queue-new": "/queues/new",
    "listeners": "/listeners",
    "topics": "/topics",
    "schedules": "/schedules",
    "schedule-new": "/schedules/new",
    "topic-new": "/topics/new",
    "schemas": "/schemas",
    "keys": "/keys",
    "key-new": "/keys/new",
    "domains": "/domains",
    "workers": "/workers",
    "settings": "/settings",
}
_FOLLOWED: Final = {
    "queue": ("/queues", "orders"),
    "listener": ("/listeners?alias=crm-sync", "crm-sync"),
    "listener-well": ("/listeners?alias=erp", "erp"),
    "listener-refusing": ("/listeners?alias=accounting", "accounting"),
    "topic": ("/topics", "shop"),
    "schedule": ("/schedules", "inventory"),
    "key": ("/keys", "storefront"),
    "domain": ("/domains", "shop.example"),
}
"""Pages that are reached by a link: the path of the page with the link, and the text of the link."""
_FAILED_MESSAGE: Final = 0
"""Index in the list of failed attempts of a message that was retried several times and is still pending."""
_TRIED: Final = "?subject=orders.de.shipped&data=%7B%22total%22%3A450%7D"


@contextmanager
def _demo() -> Iterator[str]:
    """A demo without new traffic while the block runs. Yields the link that signs in."""
    command = [sys.executable, "-m", "discue", "demo", "--port", "0", "--speed", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next((match for line in process.stdout if (match := _LINK.search(line))), None)
            if found is None:
                sys.exit("discue demo ended.")
            yield found[0].partition(" ")[2]
        finally:
            process.send_signal(signal.SIGINT)


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of the dashboard of `discue demo`.")
    parser.add_argument("--all", type=Path, metavar="DIR", help="every page, in both themes, wide and narrow")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - `make browser` installs it

    with _demo() as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        state = browser.new_context()
        state.new_page().goto(link)
        kept = state.storage_state()
        root = link.partition("/open")[0]
        paths = _paths(state.new_page(), root)
        pictures = PICTURES if arguments.all is None else tuple(_every(paths))
        folder = arguments.all or IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            context = browser.new_context(
                viewport={"width": picture.width, "height": picture.height},
                color_scheme=picture.theme,
                storage_state=kept,
            )
            page = context.new_page()
            page.set_default_timeout(_PATIENCE_MS)
            page.goto(root + paths[picture.page])
            file = folder / f"{picture.name}.png"
            page.screenshot(path=file, full_page=arguments.all is not None)
            context.close()
            if arguments.all is None and file.stat().st_size > LARGEST_BYTES:
                sys.exit(f"{file} has {file.stat().st_size} bytes: the limit is {LARGEST_BYTES}.")
        browser.close()
    sys.stdout.write(f"{len(pictures)} pictures in {folder}\n")


def _paths(page: Any, root: str) -> dict[str, str]:
    """Return the path of each page, by its name."""
    found = dict(_FIXED)
    for name, (path, text) in _FOLLOWED.items():
        page.goto(root + path)
        # Lists are in descending order: the last link leads to the oldest resource of that name.
        page.get_by_role("main").get_by_role("link", name=text, exact=True).last.click()
        found[name] = page.url.removeprefix(root)
    found["listener-new"] = f"{found['queue']}/listeners/new"
    found |= {f"{name}-edit": f"{found[name]}/edit" for name in ("queue", "listener", "schedule", "topic")}
    found["topic"] += _TRIED
    page.goto(f"{root}{found['listener-refusing']}?outcome=failed")
    page.get_by_role("main").locator("a[href*='/messages/']").nth(_FAILED_MESSAGE).click()
    found["message"] = page.url.removeprefix(root).partition("#")[0]
    return found


def _every(paths: dict[str, str]) -> Iterator[Picture]:
    for name in paths:
        for theme in get_args(Theme):
            for width in (WIDE, NARROW):
                yield Picture(f"{name}-{theme}-{width}", name, theme, width)


if __name__ == "__main__":
    main()

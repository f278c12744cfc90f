"""Writes the pictures of the documentation, `docs/images/*.png`, from the dashboard of `discue demo`."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / "docs" / "images"
LARGEST_BYTES: Final = 160_000
WIDE, NARROW = 1_280, 390

_FLAGS: Final = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu")
_LINK: Final = re.compile(r"Dashboard: (http://\S+)/open\?code=(\S+)")
_PATIENCE_MS: Final = 20_000


class Picture(NamedTuple):
    """A picture of the overview, or of a message."""

    name: str
    theme: Literal["light", "dark"]
    width: int
    height: int = 800


PICTURES: Final = (
    Picture("overview-light", "light", WIDE),
    Picture("overview-dark", "dark", WIDE),
    Picture("overview-phone", "light", NARROW, 844),
    Picture("message-light", "light", WIDE),
    Picture("message-dark", "dark", WIDE),
    Picture("message-phone", "dark", NARROW, 844),
)


@contextmanager
def _demo() -> Iterator[str]:
    """Run a demo without new traffic while the block runs. Yields the link that signs in."""
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
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - `make browser` installs it

    with _demo() as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(_FLAGS))
        signed_in = browser.new_context()
        page = signed_in.new_page()
        page.goto(link)
        urls = {"overview": link.partition("/open")[0], "message": _retried_message(page, link.partition("/open")[0])}
        for picture in PICTURES:
            context = browser.new_context(
                viewport={"width": picture.width, "height": picture.height},
                color_scheme=picture.theme,
                storage_state=signed_in.storage_state(),
            )
            page = context.new_page()
            page.set_default_timeout(_PATIENCE_MS)
            page.goto(urls[picture.name.partition("-")[0]])
            file = IMAGES / f"{picture.name}.png"
            page.screenshot(path=file)
            context.close()
            if file.stat().st_size > LARGEST_BYTES:
                sys.exit(f"{file} has {file.stat().st_size} bytes: the limit is {LARGEST_BYTES}.")
        browser.close()


def _retried_message(page: Any, root: str) -> str:
    """Return the URL of a message that was retried several times and is still pending."""
    page.goto(f"{root}/listeners?alias=accounting")
    # Lists are in descending order: the last link leads to the oldest listener of that name.
    page.get_by_role("main").get_by_role("link", name="accounting", exact=True).last.click()
    page.goto(f"{page.url}?outcome=failed")
    page.get_by_role("main").locator("a[href*='/messages/']").first.click()
    return str(page.url).partition("#")[0]


if __name__ == "__main__":
    main()

"""The programs that the portal shows: those whose languages are installed run, against signatures of the service."""

import html
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from discue.crypto.signing import decode_secret, new_secret, sign
from discue.dashboard.portal.pages import VERIFICATION
from tests.dashboard.portal.conftest import Tenants
from tests.support.portals import Customer

SECRET: Final = new_secret(lambda count: bytes(range(count)))
OTHER: Final = new_secret(bytes)
BODY: Final = '{"order": 17, "näme": "ü"}'.encode()


HARNESSES: Final = Path(__file__).parent / "harnesses"


class Harness(NamedTuple):
    """A program that calls the one of the page: it prints for each request, given by its headers, if it is genuine."""

    command: tuple[str, ...]
    """Run with the secret, the file with the body, and the file with the headers as JSON as arguments."""
    main: str
    """The file in `HARNESSES`."""
    shown: str
    """The file in which it expects the program of the page."""


LANGUAGES: Final = {
    "Python": Harness((sys.executable, "main.py"), "main.py", "webhook.py"),
    "Node": Harness(("node", "main.mjs"), "main.mjs", "webhook.mjs"),
    "Go": Harness(("go", "run", "main.go", "webhook.go"), "main.go", "webhook.go"),
    "Ruby": Harness(("ruby", "main.rb"), "main.rb", "webhook.rb"),
    "PHP": Harness(("php", "main.php"), "main.php", "webhook.php"),
    "Java": Harness(("java", "-cp", ".", "Main"), "Main.java", "Webhook.java"),
}


def headers_of(body: bytes, *secrets: str, age: int = 0) -> dict[str, str]:
    timestamp = int(time.time()) - age
    signature = sign([decode_secret(each) for each in secrets], "msg_1", timestamp, body)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def requests() -> dict[str, tuple[dict[str, str], bool]]:
    """Return headers of requests with `BODY`, by what is special about them, and whether each is genuine."""
    genuine = headers_of(BODY, SECRET)
    return {
        "one signature": (genuine, True),
        "two signatures": (headers_of(BODY, OTHER, SECRET), True),
        "four minutes old": (headers_of(BODY, SECRET, age=240), True),
        "another body": (headers_of(b"{}", SECRET), False),
        "another secret": (headers_of(BODY, OTHER), False),
        "too old": (headers_of(BODY, SECRET, age=360), False),
        "too new": (headers_of(BODY, SECRET, age=-360), False),
        "another id": ({**genuine, "webhook-id": "msg_2"}, False),
        "another time": ({**genuine, "webhook-timestamp": str(int(time.time()) - 1)}, False),
        "no time": ({**genuine, "webhook-timestamp": "now"}, False),
        "another version": ({**genuine, "webhook-signature": f"v2,{genuine['webhook-signature'][3:]}"}, False),
        "no signature": ({**genuine, "webhook-signature": ""}, False),
        "no headers": ({}, False),
    }


@pytest.mark.parametrize("language", VERIFICATION)
def test_program_accepts_genuine_requests_only(language: str, tmp_path: Path) -> None:
    harness, cases = LANGUAGES[language], requests()
    if shutil.which(harness.command[0]) is None:
        pytest.skip(f"{language} is not installed")
    # A Go program has one package.
    program = VERIFICATION[language].replace("package webhook", "package main")
    (tmp_path / harness.shown).write_text(program)
    shutil.copy(HARNESSES / harness.main, tmp_path)
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "requests").write_text("".join(f"{json.dumps(headers)}\n" for headers, _ in cases.values()))
    if language == "Java":
        subprocess.run(["javac", harness.shown, harness.main], cwd=tmp_path, check=True)

    command = [*harness.command, SECRET, "body", "requests"]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()

    found = {name: json.loads(line) for name, line in zip(cases, printed, strict=True)}
    assert found == {name: is_genuine for name, (_, is_genuine) in cases.items()}


def test_page_shows_every_program_as_it_is(acme: Customer, tenants: Tenants) -> None:
    page = acme.get(f"{tenants.own.path}/verification").text
    for language, program in VERIFICATION.items():
        assert f"<h2>{language}</h2>" in page
        assert program.strip() in html.unescape(page), language
    assert page.count("<details") == page.count("<details ") == len(LANGUAGES)
    assert "<dt>discue-type</dt>" in page
    assert "Verify requests</a>" in acme.get(tenants.own.path).text

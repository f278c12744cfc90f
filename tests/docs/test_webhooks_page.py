"""The examples in `docs/webhooks.md` and the README that verify webhooks."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from discue_client import Reason
from tests.clients.python.frameworks import answer_of_django, call_asgi, call_wsgi
from tests.clients.python.signed import MESSAGE_ID, SECRET, headers_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "webhooks.md"
BODY = b'{"order": 17}'


def example(page: Path, mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n```\w+\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, mark
    return found[1]


def names_of(page: Path, mark: str) -> dict[str, Any]:
    """Run an example and return the names that it defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(example(page, mark), names)  # noqa: S102 - the example itself is tested
    return names


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("NEW_SECRET", "whsec_" + "A" * 32)
    monkeypatch.setenv("OLD_SECRET", SECRET)


def signed(body: bytes = BODY) -> dict[str, str]:
    return headers_of(body, timestamp=int(time.time()))


@pytest.mark.parametrize("mark", ["app fastapi", "app flask", "view", "app asgi"])
def test_example_accepts_genuine_requests_only(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = names_of(PAGE, mark)

    def status(headers: dict[str, str]) -> int:
        if mark == "view":
            return answer_of_django(names["receive"], BODY, headers).status
        call = call_wsgi if mark == "app flask" else call_asgi
        return call(names["app"], BODY, headers, path="/orders").status

    assert status(signed()) == 204
    assert capsys.readouterr().out == f"{MESSAGE_ID} 17\n"
    assert status(signed(b"{}")) == 401
    assert capsys.readouterr().out == ""


def test_example_without_a_framework_says_why_a_request_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    receive = names_of(PAGE, "function")["receive"]

    assert receive(BODY, signed()) == 204
    assert receive(BODY, signed(b"{}")) == 401
    assert "no_match No signature matches" in capsys.readouterr().out


def test_page_explains_every_reason() -> None:
    section = PAGE.read_text().partition("## Reasons")[2]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", section, re.MULTILINE)))) == set(Reason)

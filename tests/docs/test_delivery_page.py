"""The example in `docs/delivery.md` that verifies signatures."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

PAGE = Path(__file__).parents[2] / "docs" / "delivery.md"
SECRET = "whsec_" + "A" * 32
BODY = '{"order": 17, "state": "paid"}'


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the example defines, and the bodies that it `handled`."""
    monkeypatch.setenv("LISTENER_SECRET", SECRET)
    found = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    handled: list[bytes] = []
    names: dict[str, Any] = {"handle_once": lambda _, body: handled.append(body), "handled": handled}
    exec(found[1], names)  # noqa: S102 - the example itself is tested
    return names


def _headers(signed_at: datetime) -> dict[str, str]:
    return {
        "webhook-id": "0Vbva8VC00enQiJ4MzFhE",
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("0Vbva8VC00enQiJ4MzFhE", signed_at, BODY),
    }


def test_the_example_accepts_a_signed_request(example: dict[str, Any]) -> None:
    assert example["receive"](_headers(datetime.now(UTC)), BODY.encode()) == 204
    assert example["handled"] == [BODY.encode()]


def test_the_example_rejects_another_body(example: dict[str, Any]) -> None:
    assert example["receive"](_headers(datetime.now(UTC)), b"{}") == 401
    assert example["handled"] == []


def test_the_example_rejects_an_old_request(example: dict[str, Any]) -> None:
    assert example["receive"](_headers(datetime.now(UTC) - timedelta(minutes=6)), BODY.encode()) == 401

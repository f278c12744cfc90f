"""Names of browsers are short, and right for the common ones."""

import pytest

from discue.dashboard.formats import browser_name

_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36", "Chrome 141 on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36 Edg/141.0", "Edge 141 on Windows"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140 on Linux"),
        (f"{_MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15", "Safari 18 on macOS"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari 18 on iPhone",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 15) {_WEBKIT} Chrome/141.0 Mobile Safari/537.36",
            "Chrome 141 on Android",
        ),
        ("curl/8.5.0", "curl 8"),
        ("python-httpx/0.28.1", "python-httpx/0.28.1"),
        ("", "unknown"),
        ("x" * 256, "x" * 60),
    ],
)
def test_browser_has_a_short_name(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == name

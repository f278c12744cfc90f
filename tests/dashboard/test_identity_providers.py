"""Users who sign in at an identity provider."""

import html
import re
from base64 import urlsafe_b64encode
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.users import identities
from discue.dashboard.users.provider import PendingSignIn
from tests.support.dashboard_front import (
    NEW,
    PASSWORD,
    Front,
    arrive,
    is_signed_in,
    leave,
)
from tests.support.dashboards import SAME_ORIGIN
from tests.support.identity_provider import CLIENT_ID


def test_user_of_an_identity_provider_signs_in(front: Front) -> None:
    browser = front.service.browser(None)
    assert "Example Ltd</a>" in browser.get("/sign-in").text
    arrived = arrive(browser, leave(front, browser, "/sign-in/company?next=/queues"))
    assert arrived.headers["location"].endswith("dashboard/queues"), arrived.text
    assert is_signed_in(browser)
    assert "ada@example.com" in browser.get("/account").text
    assert f"{LOOPBACK_NAME}-sign-in" not in browser.cookies


def test_response_in_another_browser_or_twice_is_refused(front: Front) -> None:
    attacker, victim = front.service.browser(None), front.service.browser(None)
    query = leave(front, attacker)
    for browser in (victim, attacker, attacker):
        response = arrive(browser, query)
        if browser is attacker and is_signed_in(attacker):
            browser.post("/sign-out", headers=SAME_ORIGIN)
            continue
        assert response.status_code == 401
        assert not is_signed_in(browser)


def test_refusal_of_the_provider_is_shown_on_the_sign_in_page(front: Front) -> None:
    browser = front.service.browser(None)
    query = leave(front, browser)
    response = arrive(browser, {"state": query["state"], "error": "<script>access_denied"})
    assert response.status_code == 401
    assert "Example Ltd refused the sign-in (&lt;script&gt;access_denied)" in response.text


_DEEP = urlsafe_b64encode(b'{"x":' + b"[" * 3_000).decode()


@pytest.mark.parametrize("cookie", ["", "x", "e30=", "bnVsbA==", "%%%", _DEEP], ids=lambda cookie: cookie[:9])
def test_cookie_of_a_sign_in_that_cannot_be_read_is_refused(front: Front, cookie: str) -> None:
    headers = {"cookie": f"{LOOPBACK_NAME}-sign-in={cookie}"}
    response = front.service.browser(None).get("/sign-in/company/callback?state=x&code=x", headers=headers)
    assert (response.status_code, "not started in this browser" in response.text) == (401, True)


def test_redirect_url_ignores_the_host_header(front: Front) -> None:
    browser = front.service.browser(None)
    for path in ("/sign-in/company", "/sign-in/company/sign-out"):
        location = browser.get(path, headers={"host": "evil.example"}).headers["location"]
        assert quote(front.service.url, safe="") in location
        assert "evil.example" not in location


def test_unknown_provider_does_not_exist(front: Front) -> None:
    browser = front.service.browser(None)
    for path in ("/sign-in/other", "/sign-in/other/callback", "/sign-in/company/more"):
        assert browser.get(path).status_code == 404, path


def test_user_connects_an_account_after_entering_the_password(front: Front) -> None:
    member = front.member()
    form = {"provider": "company", "password": NEW}
    assert member.browser.post("/account/connect", data=form, headers=SAME_ORIGIN).status_code == 422
    page = member.browser.post("/account/connect", data=form | {"password": PASSWORD}, headers=SAME_ORIGIN)
    (url,) = re.findall(r'href="(http[^"]*/authorize[^"]*)"', page.text)
    arrived = arrive(member.browser, front.provider.authorize(html.unescape(url), "connected"))
    assert arrived.headers["location"].endswith("/account?done=connected"), arrived.text

    browser = front.service.browser(None)
    query = front.provider.authorize(browser.get("/sign-in/company").headers["location"], "connected")
    arrive(browser, query)
    assert member.user.email in browser.get("/account").text


def test_user_connects_a_bounded_number_of_accounts(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "IDENTITIES_OF_A_USER", 1)
    member = front.member()
    form = {"provider": "company", "password": PASSWORD}
    answers = []
    for subject in ("bounded-1", "bounded-2"):
        page = member.browser.post("/account/connect", data=form, headers=SAME_ORIGIN)
        (url,) = re.findall(r'href="(http[^"]*/authorize[^"]*)"', page.text)
        answers.append(arrive(member.browser, front.provider.authorize(html.unescape(url), subject)))
    assert [answer.status_code == 303 for answer in answers] == [True, False]
    assert "no more are possible" in answers[1].text


def test_provider_that_fails_says_so_on_the_sign_in_page(front: Front) -> None:
    browser = front.service.browser(None)
    query = leave(front, browser)
    front.provider.responses["/token"] = (500, b"")
    response = arrive(browser, query)
    front.provider.responses.clear()
    assert (response.status_code, "Example Ltd responded with 500" in response.text) == (503, True)


def test_session_alone_connects_no_account(front: Front) -> None:
    """Someone with a stolen session makes the cookie of a connection by themselves."""
    member = front.member()
    query = leave(front, member.browser)
    name = f"{LOOPBACK_NAME}-sign-in"
    kept = PendingSignIn.of_cookie(member.browser.cookies[name])
    assert kept is not None
    member.browser.cookies.delete(name)
    forged = replace(kept, permit="x" * 43).cookie
    token = member.browser.cookies[LOOPBACK_NAME]
    headers = {"cookie": f"{LOOPBACK_NAME}={token}; {name}={forged}"}
    refused = member.browser.get("/sign-in/company/callback", params=query, headers=headers)
    assert (refused.status_code, "with your password" in refused.text) == (401, True)


def test_user_of_a_provider_is_led_to_sign_out_there_too(front: Front) -> None:
    browser = front.service.browser(None)
    arrive(browser, leave(front, browser))
    left = browser.post("/sign-out", headers=SAME_ORIGIN).headers["location"]
    assert left.endswith("/sign-in?from=company")
    assert "Sign out at Example Ltd, too" in browser.get("/sign-in?from=company").text
    assert "Sign out at" not in browser.get("/sign-in?from=other").text
    there = browser.get("/sign-in/company/sign-out").headers["location"]
    assert there.startswith(f"{front.provider.issuer}/logout?client_id={CLIENT_ID}&post_logout_redirect_uri=")
    assert not is_signed_in(browser)

"""The cookie of a browser in which a user has signed in: when it is set, and how it protects from strangers."""

import re

import httpx
import pytest

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.domain.lockout import FAILURES, WINDOW_MS
from tests.support.dashboard_front import NEW, PASSWORD, Front, code_of, is_signed_in, link_in, text_of
from tests.support.dashboards import SAME_ORIGIN, Browser

_DEVICE = f"{LOOPBACK_NAME}-device"


@pytest.fixture(autouse=True)
def _forgotten_failures(front: Front) -> None:
    """All tests fail sign-ins from one address, which must not be locked out."""
    front.service.advance(WINDOW_MS / 1_000)


def _set_device(response: httpx.Response) -> list[str]:
    return [each for each in response.headers.get_list("set-cookie") if each.startswith(f"{_DEVICE}=")]


def _lock_out(front: Front, email: str) -> None:
    for _ in range(FAILURES):
        front.sign_in(email, NEW)
    assert front.sign_in(email).status_code == 403


def _with_device(front: Front, value: str) -> Browser:
    browser = front.service.browser(None)
    browser.cookies.set(_DEVICE, value, domain="127.0.0.1", path="/")
    return browser


def test_cookie_is_http_only_and_lasts_400_days(front: Front) -> None:
    (cookie,) = _set_device(front.sign_in(front.user().email))
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=34560000"} <= set(cookie.split("; "))


def test_cookie_survives_signing_out_and_admits_its_user_during_an_attack(front: Front) -> None:
    member = front.member()
    assert not _set_device(member.browser.post("/sign-out", headers=SAME_ORIGIN))
    _lock_out(front, member.user.email)
    assert front.sign_in(member.user.email, browser=member.browser).status_code == 303
    assert is_signed_in(member.browser)


def test_cookie_alone_opens_no_page(front: Front) -> None:
    device = front.member("owner").browser.cookies[_DEVICE]
    browser = _with_device(front, device)
    browser.cookies.set(LOOPBACK_NAME, device, domain="127.0.0.1", path="/")
    assert not is_signed_in(browser)


def test_failed_or_unfinished_sign_in_sets_no_cookie(front: Front) -> None:
    member = front.member()
    page = member.browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", page.text)
    form = {"code": code_of(front, secret)}
    shown = member.browser.post("/account/second-factor/code", data=form, headers=SAME_ORIGIN)
    recovery = re.findall(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", shown.text)
    browser = front.service.browser(None)
    for password in (NEW, PASSWORD):
        assert not _set_device(front.sign_in(member.user.email, password, browser))
    assert not _set_device(browser.post("/sign-in", data={"code": "000000"}, headers=SAME_ORIGIN))
    assert _set_device(browser.post("/sign-in", data={"code": recovery[0]}, headers=SAME_ORIGIN))
    browser.post("/sign-out", headers=SAME_ORIGIN)
    _lock_out(front, member.user.email)
    assert front.sign_in(member.user.email, browser=browser).status_code == 303
    assert browser.post("/sign-in", data={"code": recovery[1]}, headers=SAME_ORIGIN).status_code == 303
    assert is_signed_in(browser)


def test_new_password_voids_the_cookies_of_all_browsers_but_the_one_that_set_it(front: Front) -> None:
    member = front.member()
    other = _with_device(front, member.browser.cookies[_DEVICE])
    form = {"password": PASSWORD, "new_password": NEW, "again": NEW}
    assert _set_device(member.browser.post("/account/password", data=form, headers=SAME_ORIGIN))
    for _ in range(FAILURES):
        assert front.sign_in(member.user.email).status_code == 401
    assert front.sign_in(member.user.email, NEW, other).status_code == 403
    member.browser.post("/sign-out", headers=SAME_ORIGIN)
    assert front.sign_in(member.user.email, NEW, member.browser).status_code == 303


def test_link_of_an_admin_lets_a_user_in_during_an_attack(front: Front) -> None:
    owner, user = front.member("owner"), front.user()
    _lock_out(front, user.email)
    token = link_in(owner.browser.post(f"/users/{user.public_id}/invite", headers=SAME_ORIGIN))
    browser = front.service.browser(None)
    refused = browser.post("/invitation", data={"token": token, "password": "short"}, headers=SAME_ORIGIN)
    assert not _set_device(refused)
    assert _set_device(browser.post("/invitation", data={"token": token, "password": NEW}, headers=SAME_ORIGIN))
    assert front.sign_in(user.email, NEW, browser).status_code == 303


def test_wrong_passwords_with_the_cookie_lock_out_that_browser_alone(front: Front) -> None:
    member, second = front.member(), front.service.browser(None)
    front.sign_in(member.user.email, browser=second)
    thief = _with_device(front, member.browser.cookies[_DEVICE])
    for _ in range(FAILURES):
        assert front.sign_in(member.user.email, NEW, thief).status_code == 401
    locked = front.sign_in(member.user.email, browser=thief)
    assert (locked.status_code, "Try again in 60 seconds." in text_of(locked)) == (403, True)
    assert front.sign_in(member.user.email, browser=second).status_code == 303
    assert front.sign_in(member.user.email).status_code == 303


@pytest.mark.parametrize(
    "value",
    ["x", "x" * 86, "0" * 86, "x" * 5_000, '"quoted"', "%00", "é"],
    ids=["short", "not hexadecimal", "forged", "long", "quoted", "percent", "not ASCII"],
)
def test_pages_with_a_forged_cookie_do_not_reveal_which_emails_exist(front: Front, value: str) -> None:
    user = front.user()
    headers = {b"cookie": f"{_DEVICE}={value}".encode(), **{k.encode(): v.encode() for k, v in SAME_ORIGIN.items()}}
    pages = []
    for email in (user.email, f"no-{user.email}"):
        form = {"email": email, "password": NEW}
        page = front.service.browser(None).post("/sign-in", data=form, headers=headers)
        pages.append((page.status_code, page.text.replace(email, ""), _set_device(page)))
    assert pages[0] == pages[1]
    assert (pages[0][0], pages[0][2]) == (401, [])


def test_repeated_cookie_is_ignored(front: Front) -> None:
    member = front.member()
    _lock_out(front, member.user.email)
    device = member.browser.cookies[_DEVICE]
    form, browser = {"email": member.user.email, "password": PASSWORD}, front.service.browser(None)
    for sent, status in ((f"{_DEVICE}={device}; {_DEVICE}=x", 403), (f"{_DEVICE}={device}", 303)):
        response = browser.post("/sign-in", data=form, headers={"cookie": sent, **SAME_ORIGIN})
        assert response.status_code == status

"""Signing in, accounts and users through the pages, as people use them, and as attackers try to."""

import html
import re

import pytest

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.domain.lockout import FAILURES
from discue.domain.model import User
from tests.support.dashboard_front import (
    NEW,
    PASSWORD,
    Front,
    code_of,
    is_signed_in,
    link_in,
    text_of,
)
from tests.support.dashboards import SAME_ORIGIN

_COOKIE = f"{LOOPBACK_NAME}="


def test_user_signs_in_and_out(front: Front) -> None:
    member = front.member()
    assert is_signed_in(member.browser)
    assert member.user.email in member.browser.get("/account").text
    token = member.browser.cookies[LOOPBACK_NAME]
    assert member.browser.post("/sign-out", headers=SAME_ORIGIN).status_code == 303
    assert not is_signed_in(member.browser)
    copied = front.service.browser(None)
    copied.cookies.set(LOOPBACK_NAME, token)
    assert not is_signed_in(copied)


def test_sign_in_page_says_how_to_get_in(front: Front) -> None:
    page = front.service.browser(None).get("/sign-in").text
    assert "Ask an owner of your organization for a link." in page
    assert "<code>discue users create EMAIL</code>" in page
    assert "<code>discue users link EMAIL</code>" in page


def test_cookie_is_for_this_host_and_no_script(front: Front) -> None:
    response = front.sign_in(front.user().email)
    (cookie,) = [each for each in response.headers.get_list("set-cookie") if each.startswith(_COOKIE)]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


def test_wrong_password_and_unknown_user_get_equal_pages(front: Front) -> None:
    user = front.user()
    known = front.sign_in(user.email, NEW)
    unknown = front.sign_in("nobody@example.com", NEW)
    assert known.status_code == unknown.status_code == 401
    assert known.text.replace(user.email, "") == unknown.text.replace("nobody@example.com", "")
    assert "set-cookie" not in known.headers


def test_fixed_session_does_not_become_the_victims(front: Front) -> None:
    attacker, victim = front.member(), front.user("owner")
    planted = attacker.browser.cookies[LOOPBACK_NAME]
    browser = front.service.browser(None)
    browser.cookies.set(LOOPBACK_NAME, planted, domain="127.0.0.1", path="/")
    front.sign_in(victim.email, browser=browser)
    assert browser.get("/account").text.count(victim.email)
    assert not is_signed_in(attacker.browser)


@pytest.mark.parametrize("value", ["", "x", "x" * 43, "x" * 5_000, '"quoted"', "%00", "é"])
def test_unknown_cookie_leads_to_the_sign_in_page(front: Front, value: str) -> None:
    headers = {b"cookie": f"{LOOPBACK_NAME}={value}".encode()}
    assert front.service.browser(None).get("/queues", headers=headers).status_code == 303


def test_repeated_cookie_is_ignored(front: Front) -> None:
    token = front.member().browser.cookies[LOOPBACK_NAME]
    headers = {"cookie": f"{LOOPBACK_NAME}={token}; {LOOPBACK_NAME}=x"}
    assert front.service.browser(None).get("/queues", headers=headers).status_code == 303


@pytest.mark.parametrize("path", ["/sign-in", "/invitation", "/sign-out", "/theme"])
def test_form_without_a_session_from_another_site_is_refused(front: Front, path: str) -> None:
    response = front.service.browser(None).post(path, data={"email": "x"}, headers={"sec-fetch-site": "cross-site"})
    assert response.status_code == 403


def test_guessed_passwords_lock_the_user_out_but_not_their_sessions(front: Front) -> None:
    member = front.member()
    for _ in range(FAILURES):
        assert front.sign_in(member.user.email, NEW).status_code == 401
    locked = front.sign_in(member.user.email)
    assert (locked.status_code, "Try again in 60 seconds." in text_of(locked)) == (403, True)
    assert is_signed_in(member.browser)
    assert front.service.api().get("/queues").status_code == 200


def test_disabled_user_loses_access_with_the_next_request(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}"
    form = {"display_name": "Ada", "role": "developer", "status": "disabled"}
    saved = owner.browser.post(path, data=form, headers=SAME_ORIGIN)
    assert saved.headers["location"].endswith(f"{path}?done=saved"), saved.text
    assert not is_signed_in(member.browser)
    assert front.sign_in(member.user.email).status_code == 401
    assert "cannot sign in" in owner.browser.get(path).text


def test_lower_role_takes_effect_with_the_next_request(front: Front) -> None:
    owner, member = front.member("owner"), front.member("admin")
    assert member.browser.get("/users").status_code == 200
    form = {"role": "viewer", "status": "enabled"}
    owner.browser.post(f"/users/{member.user.public_id}", data=form, headers=SAME_ORIGIN)
    assert member.browser.get("/users").status_code == 403
    assert member.browser.get("/queues/new").status_code == 403
    assert is_signed_in(member.browser)


def test_link_for_a_user_ignores_the_host_header(front: Front) -> None:
    owner = front.member("owner")
    headers = {**SAME_ORIGIN, "host": "127.0.0.1:1"}
    page = owner.browser.post("/users/new", data={"email": "eve@example.com", "role": "viewer"}, headers=headers)
    assert f"{front.service.url}/dashboard/invitation#" in page.text
    assert "127.0.0.1:1/" not in page.text


def test_invited_user_chooses_a_password_and_signs_in(front: Front) -> None:
    owner = front.member("owner")
    form = {"email": "new@example.com", "display_name": "New", "role": "viewer"}
    token = link_in(owner.browser.post("/users/new", data=form, headers=SAME_ORIGIN))
    browser = front.service.browser(None)
    assert browser.get("/invitation").status_code == 200
    asked = browser.post("/invitation", data={"token": token}, headers=SAME_ORIGIN)
    assert (asked.status_code, "as <strong>new@example.com</strong>" in asked.text) == (200, True)
    strange = browser.post("/invitation", data={"token": f"{token}x"}, headers=SAME_ORIGIN)
    assert (strange.status_code, "has expired" in strange.text, 'id="invited"' in strange.text) == (404, True, False)
    short = browser.post("/invitation", data={"token": token, "password": "short"}, headers=SAME_ORIGIN)
    assert ">Your password: must have 8 to 256 characters.<" in short.text
    assert (short.status_code, f'value="{token}"' in short.text, "new@example.com" in short.text) == (422, True, True)
    chosen = browser.post("/invitation", data={"token": token, "password": PASSWORD}, headers=SAME_ORIGIN)
    assert chosen.status_code == 303
    assert "New password set." in browser.get("/sign-in?done=password_set").text
    used = browser.post("/invitation", data={"token": token, "password": NEW}, headers=SAME_ORIGIN)
    assert (used.status_code, "already been used" in used.text) == (404, True)
    assert front.sign_in("new@example.com", browser=browser).status_code == 303
    assert is_signed_in(browser)


def test_reset_link_ends_sessions_when_it_is_used(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}/invite"
    token = link_in(owner.browser.post(path, headers=SAME_ORIGIN))
    assert is_signed_in(member.browser)
    browser = front.service.browser(None)
    browser.post("/invitation", data={"token": token, "password": NEW}, headers=SAME_ORIGIN)
    assert not is_signed_in(member.browser)
    assert front.sign_in(member.user.email, NEW).status_code == 303


def test_taken_email_is_named_at_its_field_and_kept(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    form = {"email": member.user.email, "role": "viewer"}
    refused = owner.browser.post("/users/new", data=form, headers=SAME_ORIGIN)
    assert refused.status_code == 422
    assert 'id="email-fault">It is taken.' in refused.text
    assert f'value="{member.user.email}"' in refused.text


def test_admin_cannot_become_or_touch_an_owner(front: Front) -> None:
    owner, admin = front.member("owner"), front.member("admin")
    assert ">owner</option>" not in admin.browser.get("/users/new").text
    for path, form in (
        (f"/users/{admin.user.public_id}", {"role": "owner", "status": "enabled"}),
        (f"/users/{owner.user.public_id}", {"role": "viewer", "status": "disabled"}),
        (f"/users/{owner.user.public_id}/invite", {}),
        (f"/users/{owner.user.public_id}/sign-out", {}),
        (f"/users/{owner.user.public_id}/second-factor", {}),
        (f"/users/{owner.user.public_id}/delete", {}),
    ):
        assert admin.browser.post(path, data=form, headers=SAME_ORIGIN).status_code == 403, path
    assert is_signed_in(owner.browser)


def test_users_of_another_organization_do_not_exist(front: Front) -> None:
    member, stranger = front.member(), front.service.foreign_browser()
    path = f"/users/{member.user.public_id}"
    for each in (path, f"{path}/invite", f"{path}/delete", f"{path}/sign-out", f"{path}/second-factor"):
        assert stranger.get(each).status_code == 404, each
        assert stranger.post(each, data={"role": "viewer"}, headers=SAME_ORIGIN).status_code == 404, each
    assert member.user.email not in stranger.get("/users").text


@pytest.mark.parametrize("action", ["invite", "second-factor"])
def test_session_alone_does_not_take_over_its_account(front: Front, action: str) -> None:
    owner = front.member("owner")
    path = f"/users/{owner.user.public_id}"
    assert f"{path}/{action}" not in owner.browser.get(path).text
    for refused in (
        owner.browser.get(f"{path}/{action}"),
        owner.browser.post(f"{path}/{action}", headers=SAME_ORIGIN),
    ):
        assert (refused.status_code, "Use your account page." in refused.text) == (403, True)


def test_user_is_deleted_after_a_preview(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}/delete"
    assert "cannot be restored" in owner.browser.get(path).text
    deleted = owner.browser.post(path, headers=SAME_ORIGIN)
    assert deleted.headers["location"].endswith("/users?done=deleted")
    assert not is_signed_in(member.browser)


def test_password_is_changed_with_the_current_one_only(front: Front) -> None:
    member = front.member()
    other = front.service.browser(None)
    front.sign_in(member.user.email, browser=other)
    form = {"password": PASSWORD, "new_password": NEW, "again": NEW}
    for changed, fault in (
        ({"password": "wrong one"}, "password-fault"),
        ({"again": "different"}, "again-fault"),
        ({"new_password": "short", "again": "short"}, "new_password-fault"),
    ):
        refused = member.browser.post("/account/password", data=form | changed, headers=SAME_ORIGIN)
        assert (refused.status_code, fault in refused.text) == (422, True)
        assert NEW not in refused.text
    done = member.browser.post("/account/password", data=form, headers=SAME_ORIGIN)
    assert done.headers["location"].endswith("/account?done=password_set")
    assert [is_signed_in(each) for each in (member.browser, other)] == [True, False]


def test_viewer_ends_own_sessions_and_no_others(front: Front) -> None:
    member, other = front.member("viewer"), front.member("viewer")
    second = front.service.browser(None)
    front.sign_in(member.user.email, browser=second)
    ids = re.findall(r'name="session" value="(\w+)"', member.browser.get("/account").text)
    assert len(ids) == 1
    assert other.browser.post("/account/sessions", data={"session": ids[0]}, headers=SAME_ORIGIN).status_code == 403
    assert is_signed_in(second)
    member.browser.post("/account/sessions", data={"session": ids[0]}, headers=SAME_ORIGIN)
    assert [is_signed_in(each) for each in (member.browser, second, other.browser)] == [True, False, True]


def test_second_factor_is_set_up_asked_for_and_removed(front: Front) -> None:
    member = front.member()
    wrong = member.browser.post("/account/second-factor", data={"password": NEW}, headers=SAME_ORIGIN)
    assert (wrong.status_code, "password-fault" in wrong.text) == (422, True)
    page = member.browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", page.text)
    code = code_of(front, secret)
    assert f'name="secret" value="{secret}"' in page.text
    for sent, is_kept in ((secret, True), (secret[:-1], False), ("", False)):
        form = {"code": "000000", "secret": sent}
        bad = member.browser.post("/account/second-factor/code", data=form, headers=SAME_ORIGIN)
        assert (bad.status_code, "Check the clock" in bad.text) == (422, True)
        assert (secret in bad.text, "QR code" in bad.text) == (is_kept, is_kept)
    shown = member.browser.post("/account/second-factor/code", data={"code": code}, headers=SAME_ORIGIN)
    recovery = re.findall(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", shown.text)
    assert len(recovery) == 10

    browser = front.service.browser(None)
    half = front.sign_in(member.user.email, browser=browser)
    assert half.headers["location"].endswith("/sign-in")
    assert not is_signed_in(browser)
    assert "Enter the code" in browser.get("/sign-in").text
    replayed = browser.post("/sign-in", data={"code": code}, headers=SAME_ORIGIN)
    assert (replayed.status_code, "wait until the app shows the next one" in replayed.text) == (401, True)
    assert browser.post("/sign-in", data={"code": recovery[0]}, headers=SAME_ORIGIN).status_code == 303
    assert is_signed_in(browser)

    removed = browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    assert removed.headers["location"].endswith("/account?done=factor_removed")
    again = front.service.browser(None)
    front.sign_in(member.user.email, browser=again)
    assert is_signed_in(again)


def test_one_time_link_works_once(front: Front) -> None:
    code = front.service.code()
    first, second = front.service.browser(None), front.service.browser(None)
    assert first.get("/open", params={"code": code}).status_code == 303
    assert second.get("/open", params={"code": code}).status_code == 403
    assert [is_signed_in(each) for each in (first, second)] == [True, False]


@pytest.mark.parametrize("destination", ["image", "iframe", "empty", "script"])
def test_link_that_is_loaded_as_a_part_of_a_page_is_refused_and_stays_valid(front: Front, destination: str) -> None:
    browser, query = front.service.browser(None), {"code": front.service.code()}
    refused = browser.get("/open", params=query, headers={"sec-fetch-dest": destination})
    assert (refused.status_code, "Open it in a new tab." in refused.text) == (403, True)
    assert browser.get("/open", params=query, headers={"sec-fetch-dest": "document"}).status_code == 303
    assert is_signed_in(browser)


def test_program_that_looks_at_a_link_does_not_use_it_up(front: Front) -> None:
    browser, query = front.service.browser(None), {"code": front.service.code()}
    looked = browser.head("/open", params=query)
    assert (looked.status_code, "set-cookie" in looked.headers) == (303, False)
    assert browser.get("/open", params=query).status_code == 303
    assert is_signed_in(browser)


def test_stored_script_in_names_and_browsers_is_shown_as_text(front: Front) -> None:
    owner, user = front.member("owner"), front.user()
    script = "<script>alert(1)</script>"
    browser = front.service.browser(None)
    form = {"email": user.email, "password": PASSWORD}
    browser.post("/sign-in", data=form, headers={**SAME_ORIGIN, "user-agent": script})
    path = f"/users/{user.public_id}"
    owner.browser.post(path, data={"display_name": script, "role": "viewer", "status": "enabled"}, headers=SAME_ORIGIN)
    for page in (path, "/users", f"{path}/delete"):
        assert script not in owner.browser.get(page).text
    assert html.escape(script) in owner.browser.get(path).text
    assert script not in front.sign_in(script, NEW).text


def _pages(front: Front, user: User) -> list[str]:
    path = f"/users/{user.public_id}"
    actions = [f"{path}/{name}" for name in ("invite", "second-factor", "sign-out", "delete")]
    account = [f"/account{name}" for name in ("", "/password", "/second-factor", "/second-factor/code")]
    return ["/users", "/users/new", path, *actions, *account]


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        ("owner", set()),
        ("admin", set()),
        ("developer", {"/users/new", "invite", "second-factor", "sign-out", "delete"}),
        ("viewer", {"/users", "/users/new", "user", "invite", "second-factor", "sign-out", "delete"}),
    ],
)
def test_pages_are_open_to_the_roles_that_need_them(front: Front, role: str, refused: set[str]) -> None:
    user, member = front.user(), front.member(role)
    for page in _pages(front, user):
        name = page.rpartition("/")[2] if page.startswith("/users/") and page != "/users/new" else page
        expected = 403 if ("user" if name == user.public_id else name) in refused else 200
        response = member.browser.get(page)
        assert response.status_code == expected, (page, response.text)
        assert response.text.count("<h1") == 1, page
        assert response.headers["cache-control"] == "no-store"


def test_link_that_the_api_makes_leads_to_the_page(front: Front) -> None:
    with front.service.api() as api:
        made = api.post("/users", json={"email": "by-api@example.com", "role": "viewer"}).json()["invitation"]
        url, _, token = made["url"].partition("#")
        assert url == f"{front.service.url}/dashboard/invitation"
        assert token == made["token"]


def test_events_of_the_api_name_the_user_who_acted_on_a_page(front: Front) -> None:
    member = front.member()
    created = member.browser.post("/queues/new", data={"alias": "of-a-user"}, headers=SAME_ORIGIN)
    assert created.status_code == 303
    with front.service.api() as api:
        events = api.get("/events", params={"limit": 100}).json()["events"]
    (added,) = [each for each in events if each.get("queue", {}).get("name") == "of-a-user"]
    assert (added["type"], added["user_id"], "api_key_id" in added) == ("queue_added", member.user.public_id, False)
    (session,) = [each for each in events if each.get("session", {}).get("name") == member.user.email]
    assert (session["type"], session["user_id"]) == ("session_added", member.user.public_id)


def test_event_on_a_page_names_its_user(front: Front) -> None:
    member = front.member()
    member.browser.post("/queues/new", data={"alias": "of-a-name"}, headers=SAME_ORIGIN)
    rows = front.member("owner").browser.get("/events").text.split("<tr>")
    row = next(each for each in rows if ">of-a-name</a>" in each)
    assert f'<a href="../dashboard/users/{member.user.public_id}">{member.user.email}</a>' in row


def test_user_who_is_disabled_over_the_api_is_signed_out(front: Front) -> None:
    member = front.member()
    with front.service.api() as api:
        disabled = api.put(f"/users/{member.user.public_id}", json={"status": "disabled"})
        assert disabled.json()["user"]["status"] == "disabled"
        refused = api.put(f"/users/{member.user.public_id}", json={"status": "asleep"})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/status")
    assert not is_signed_in(member.browser)

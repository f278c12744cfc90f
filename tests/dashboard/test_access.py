"""Signing in, accounts and users through the pages, as people use them, and as attackers try to."""

import html
import re
from base64 import b32decode
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from discue.control import users
from discue.control.users import UserFields
from discue.crypto import totp
from discue.crypto.totp import STEP_MS
from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.entrance import KeptSignIn, kept_in
from discue.dashboard.forms import FORM_BYTES
from discue.dashboard.pages import ROUTES
from discue.domain.lockout import FAILURES
from discue.domain.model import User
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService, dashboard_service
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.support.passwords import CHEAP
from tests.support.ports import free_port

PASSWORD, NEW = "correct horse battery", "quite another one"
_COOKIE = f"{LOOPBACK_NAME}="
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


class Member(NamedTuple):
    """A user, and a browser in which they are signed in."""

    user: User
    browser: Browser


class Front:
    """Makes users, and signs them in at the pages of a service."""

    def __init__(self, service: DashboardService, provider: IdentityProvider) -> None:
        self.service = service
        self.provider = provider
        self._made = 0

    def user(self, role: str = "developer") -> User:
        self._made += 1
        fields = UserFields(f"u{self._made}@example.com", role=role, password=PASSWORD)
        control, principal = self.service.control, self.service.principal
        return self.service.run(users.create(control, principal, fields)).user

    def sign_in(self, email: str, password: str = PASSWORD, browser: Browser | None = None) -> httpx.Response:
        browser = browser or self.service.browser(None)
        return browser.post("/sign-in", data={"email": email, "password": password}, headers=SAME_ORIGIN)

    def member(self, role: str = "developer") -> Member:
        user, browser = self.user(role), self.service.browser(None)
        assert self.sign_in(user.email, browser=browser).status_code == 303
        return Member(user, browser)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A service of its own, and an identity provider whose users may sign in."""
    folder, port = tmp_path_factory.mktemp("access"), free_port()
    providers = folder / "providers.toml"
    providers.write_text(
        f'[[provider]]\nname = "company"\nissuer = "http://127.0.0.1:{port}"\nclient_id = "{CLIENT_ID}"\n'
        f'client_secret = "{CLIENT_SECRET}"\nlabel = "Example Ltd"\nallow_private = true\n'
        '[provider.roles]\nstaff = "developer"\n'
    )
    with dashboard_service(folder, identity_providers=providers) as service:
        provider = IdentityProvider(service.control.clock, port)
        service.run(provider.__aenter__())
        # A hash that is not what these tests are about costs a tenth of a second.
        service.control.passwords._cost = CHEAP
        yield Front(service, provider)
        service.run(provider.__aexit__(None, None, None))
        assert service.log.errors == []


def _is_signed_in(browser: Browser) -> bool:
    return browser.get("/queues").status_code == 200


def _text(response: httpx.Response) -> str:
    return html.unescape(response.text)


def _link_in(response: httpx.Response) -> str:
    found = re.search(r"http://\S+/dashboard/invitation#(\w+)", response.text)
    assert found is not None, response.text
    return found[1]


def test_user_signs_in_and_out(front: Front) -> None:
    member = front.member()
    assert _is_signed_in(member.browser)
    assert member.user.email in member.browser.get("/account").text
    token = member.browser.cookies[LOOPBACK_NAME]
    assert member.browser.post("/sign-out", headers=SAME_ORIGIN).status_code == 303
    assert not _is_signed_in(member.browser)
    copied = front.service.browser(None)
    copied.cookies.set(LOOPBACK_NAME, token)
    assert not _is_signed_in(copied)


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
    assert not _is_signed_in(attacker.browser)


@pytest.mark.parametrize("value", ["", "x", "x" * 43, "x" * 5_000, '"quoted"', "%00", "é"])
def test_cookie_that_nobody_was_given_leads_to_the_sign_in_page(front: Front, value: str) -> None:
    headers = {b"cookie": f"{LOOPBACK_NAME}={value}".encode()}
    assert front.service.browser(None).get("/queues", headers=headers).status_code == 303


def test_cookie_that_is_sent_twice_is_not_believed(front: Front) -> None:
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
    assert (locked.status_code, "Try again in 60 seconds." in _text(locked)) == (403, True)
    assert _is_signed_in(member.browser)
    assert front.service.api().get("/queues").status_code == 200


def test_disabled_user_loses_access_with_the_next_request(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}"
    form = {"display_name": "Ada", "role": "developer", "status": "disabled"}
    saved = owner.browser.post(path, data=form, headers=SAME_ORIGIN)
    assert saved.headers["location"].endswith(f"{path}?done=saved"), saved.text
    assert not _is_signed_in(member.browser)
    assert front.sign_in(member.user.email).status_code == 401
    assert "cannot sign in" in owner.browser.get(path).text


def test_lower_role_takes_effect_with_the_next_request(front: Front) -> None:
    owner, member = front.member("owner"), front.member("admin")
    assert member.browser.get("/users").status_code == 200
    form = {"role": "viewer", "status": "enabled"}
    owner.browser.post(f"/users/{member.user.public_id}", data=form, headers=SAME_ORIGIN)
    assert member.browser.get("/users").status_code == 403
    assert member.browser.get("/queues/new").status_code == 403
    assert _is_signed_in(member.browser)


def test_invited_user_chooses_a_password_and_signs_in(front: Front) -> None:
    owner = front.member("owner")
    form = {"email": "new@example.com", "display_name": "New", "role": "viewer"}
    token = _link_in(owner.browser.post("/users/new", data=form, headers=SAME_ORIGIN))
    browser = front.service.browser(None)
    assert browser.get("/invitation").status_code == 200
    asked = browser.post("/invitation", data={"token": token}, headers=SAME_ORIGIN)
    assert (asked.status_code, "as <strong>new@example.com</strong>" in asked.text) == (200, True)
    strange = browser.post("/invitation", data={"token": f"{token}x"}, headers=SAME_ORIGIN)
    assert (strange.status_code, "too old" in strange.text, 'id="invited"' in strange.text) == (404, True, False)
    short = browser.post("/invitation", data={"token": token, "password": "short"}, headers=SAME_ORIGIN)
    assert (short.status_code, f'value="{token}"' in short.text, "new@example.com" in short.text) == (422, True, True)
    chosen = browser.post("/invitation", data={"token": token, "password": PASSWORD}, headers=SAME_ORIGIN)
    assert chosen.status_code == 303
    assert "The new password is set." in browser.get("/sign-in?done=password_set").text
    used = browser.post("/invitation", data={"token": token, "password": NEW}, headers=SAME_ORIGIN)
    assert (used.status_code, "used already" in used.text) == (404, True)
    assert front.sign_in("new@example.com", browser=browser).status_code == 303
    assert _is_signed_in(browser)


def test_reset_link_ends_sessions_when_it_is_used(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}/invite"
    token = _link_in(owner.browser.post(path, headers=SAME_ORIGIN))
    assert _is_signed_in(member.browser)
    browser = front.service.browser(None)
    browser.post("/invitation", data={"token": token, "password": NEW}, headers=SAME_ORIGIN)
    assert not _is_signed_in(member.browser)
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
    assert _is_signed_in(owner.browser)


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


LETS_IN = ("/users/new", "/users/{id}/invite", "/users/{id}/second-factor", "/keys/new", "/domains/new")


def test_forms_for_users_keys_and_domains_need_a_recent_sign_in() -> None:
    lets_nobody_in = {"/users/{id}/sign-out", "/users/{id}/delete", "/domains/{id}"}
    grants = {"users", "api_keys", "domains", "portal", "api_clients"}
    forms = {route.path: route.lets_in for route in ROUTES if route.act and {route.needs, route.writes} & grants}
    assert {path for path, lets_in in forms.items() if not lets_in} == lets_nobody_in


def test_session_alone_lets_nobody_in(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    paths = [each.format(id=member.user.public_id) for each in LETS_IN]
    for path in paths:
        assert owner.browser.get(path).status_code == 200, path
    front.service.advance(15 * 60)
    for path in paths:
        confirming = owner.browser.get(path)
        assert confirming.headers["location"].endswith(f"/confirm?next={path}"), path
    role = {"role": "owner", "status": "enabled"}
    for path, form in ((f"/users/{member.user.public_id}", role), ("/users/new", {"email": "x@example.com", **role})):
        confirming = owner.browser.post(path, data=form, headers=SAME_ORIGIN)
        assert "Confirm that it is you" in confirming.text
    shown = owner.browser.get(f"/users/{member.user.public_id}").text
    assert "<option selected>developer" in shown
    assert "x@example.com" not in owner.browser.get("/users").text


def test_password_confirms_and_leads_back_and_a_copied_session_ends(front: Front) -> None:
    owner = front.member("owner")
    copied = front.service.browser(None)
    copied.cookies.set(LOOPBACK_NAME, owner.browser.cookies[LOOPBACK_NAME])
    front.service.advance(15 * 60)
    form = {"confirm-next": "/keys/new", "confirm-password": NEW}
    assert owner.user.email in owner.browser.get("/confirm?next=/keys/new").text
    refused = owner.browser.post("/confirm", data=form, headers=SAME_ORIGIN)
    assert (refused.status_code, 'id="confirm-password-fault">It is wrong.' in refused.text) == (422, True)
    assert 'value="/keys/new"' in refused.text
    assert NEW not in refused.text
    confirmed = owner.browser.post("/confirm", data={**form, "confirm-password": PASSWORD}, headers=SAME_ORIGIN)
    assert (confirmed.status_code, confirmed.headers["location"]) == (303, "../dashboard/keys/new")
    assert owner.browser.get("/keys/new").status_code == 200
    assert owner.browser.get("/confirm?next=/keys/new").headers["location"].endswith("/keys/new")
    assert not _is_signed_in(copied)


def _fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the form on a page."""
    return {html.unescape(name): html.unescape(value) for name, value in _HIDDEN.findall(page)}


def test_form_goes_on_with_its_fields_after_the_password(front: Front) -> None:
    owner, form = front.member("owner"), {"alias": "kept", "scope-queues": "read", "scope-topics": '"<b>'}
    front.service.advance(15 * 60)
    asked = owner.browser.post("/keys/new", data=form, headers=SAME_ORIGIN)
    assert (asked.status_code, asked.headers["cache-control"]) == (200, "no-store")
    wrong = owner.browser.post("/confirm", data={**_fields(asked.text), "confirm-password": NEW}, headers=SAME_ORIGIN)
    assert (wrong.status_code, NEW in wrong.text) == (422, False)
    fields = {**_fields(wrong.text), "confirm-password": PASSWORD}
    assert form.items() <= fields.items()
    with front.service.api() as api:
        assert "kept" not in api.get("/api_keys").text
        confirmed = owner.browser.post("/confirm", data=fields, headers=SAME_ORIGIN)
        # The browser sends the same form once more, to the page that it was for, with the cookie of the new session.
        assert (confirmed.status_code, confirmed.headers["location"]) == (307, "../dashboard/keys/new")
        assert "kept is ready" in owner.browser.post("/keys/new", data=fields, headers=SAME_ORIGIN).text
        [made] = [each for each in api.get("/api_keys").json()["api_keys"] if each["alias"] == "kept"]
        assert list(made["scopes"]) == ["queues"]


def test_kept_form_is_of_its_user_and_of_this_site(front: Front) -> None:
    owner, other = front.member("owner"), front.member("owner")
    front.service.advance(15 * 60)
    path = f"/users/{other.user.public_id}/invite"
    fields = _fields(owner.browser.post(path, headers=SAME_ORIGIN).text)
    sent = {**fields, "confirm-password": PASSWORD}
    refused = other.browser.post("/confirm", data=sent, headers=SAME_ORIGIN)
    assert (refused.status_code, "Somebody else has signed in" in refused.text) == (403, True)
    assert owner.browser.post("/confirm", data=sent, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    elsewhere = owner.browser.post("/confirm", data={**sent, "confirm-next": "//evil.example"}, headers=SAME_ORIGIN)
    assert elsewhere.headers["location"] == "../dashboard"


def test_form_of_any_accepted_size_is_kept(front: Front) -> None:
    owner = front.member("owner")
    front.service.advance(15 * 60)
    form = {"alias": "x" * (FORM_BYTES - len("alias="))}
    fields = _fields(owner.browser.post("/keys/new", data=form, headers=SAME_ORIGIN).text)
    sent = {**fields, "confirm-password": PASSWORD}
    assert owner.browser.post("/confirm", data=sent, headers=SAME_ORIGIN).status_code == 307
    # Too long for a name, but not for a form.
    assert owner.browser.post("/keys/new", data=sent, headers=SAME_ORIGIN).status_code == 422
    front.service.advance(15 * 60)
    larger = {"alias": f"{form['alias']}x"}
    assert owner.browser.post("/keys/new", data=larger, headers=SAME_ORIGIN).status_code == 413


def test_confirmation_without_a_session_leads_to_the_sign_in_page(front: Front) -> None:
    response = front.service.browser(None).post("/confirm", data={"confirm-password": PASSWORD}, headers=SAME_ORIGIN)
    assert response.headers["location"].endswith("/sign-in")


def test_guessed_passwords_of_a_confirmation_lock_out(front: Front) -> None:
    owner = front.member("owner")
    front.service.advance(15 * 60)
    for _ in range(FAILURES):
        owner.browser.post("/confirm", data={"confirm-password": NEW}, headers=SAME_ORIGIN)
    refused = owner.browser.post("/confirm", data={"confirm-password": PASSWORD}, headers=SAME_ORIGIN)
    assert (refused.status_code, "Try again in 60 seconds." in _text(refused)) == (403, True)


def test_session_of_the_command_line_confirms_nothing(front: Front) -> None:
    browser, member = front.service.browser(), front.member()
    front.service.advance(15 * 60)
    assert _link_in(browser.post(f"/users/{member.user.public_id}/invite", headers=SAME_ORIGIN))


def test_user_is_deleted_after_a_preview(front: Front) -> None:
    owner, member = front.member("owner"), front.member()
    path = f"/users/{member.user.public_id}/delete"
    assert "cannot be restored" in owner.browser.get(path).text
    deleted = owner.browser.post(path, headers=SAME_ORIGIN)
    assert deleted.headers["location"].endswith("/users?done=deleted")
    assert not _is_signed_in(member.browser)


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
    assert [_is_signed_in(each) for each in (member.browser, other)] == [True, False]


def test_viewer_ends_own_sessions_and_no_others(front: Front) -> None:
    member, other = front.member("viewer"), front.member("viewer")
    second = front.service.browser(None)
    front.sign_in(member.user.email, browser=second)
    ids = re.findall(r'name="session" value="(\w+)"', member.browser.get("/account").text)
    assert len(ids) == 1
    assert other.browser.post("/account/sessions", data={"session": ids[0]}, headers=SAME_ORIGIN).status_code == 403
    assert _is_signed_in(second)
    member.browser.post("/account/sessions", data={"session": ids[0]}, headers=SAME_ORIGIN)
    assert [_is_signed_in(each) for each in (member.browser, second, other.browser)] == [True, False, True]


def _code(front: Front, secret: str) -> str:
    return totp.code_at(b32decode(secret), front.service.control.clock.now() // STEP_MS)


def _set_up_factor(front: Front, member: Member) -> None:
    page = member.browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", page.text)
    form = {"code": _code(front, secret)}
    assert member.browser.post("/account/second-factor/code", data=form, headers=SAME_ORIGIN).status_code == 200


def test_second_factor_is_set_up_asked_for_and_removed(front: Front) -> None:
    member = front.member()
    wrong = member.browser.post("/account/second-factor", data={"password": NEW}, headers=SAME_ORIGIN)
    assert (wrong.status_code, "password-fault" in wrong.text) == (422, True)
    page = member.browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", page.text)
    code = _code(front, secret)
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
    assert not _is_signed_in(browser)
    assert "Enter the code" in browser.get("/sign-in").text
    replayed = browser.post("/sign-in", data={"code": code}, headers=SAME_ORIGIN)
    assert (replayed.status_code, "wait until the app shows the next one" in replayed.text) == (401, True)
    assert browser.post("/sign-in", data={"code": recovery[0]}, headers=SAME_ORIGIN).status_code == 303
    assert _is_signed_in(browser)

    removed = browser.post("/account/second-factor", data={"password": PASSWORD}, headers=SAME_ORIGIN)
    assert removed.headers["location"].endswith("/account?done=factor_removed")
    again = front.service.browser(None)
    front.sign_in(member.user.email, browser=again)
    assert _is_signed_in(again)


def test_one_time_link_works_once(front: Front) -> None:
    code = front.service.code()
    first, second = front.service.browser(None), front.service.browser(None)
    assert first.get("/open", params={"code": code}).status_code == 303
    assert second.get("/open", params={"code": code}).status_code == 403
    assert [_is_signed_in(each) for each in (first, second)] == [True, False]


@pytest.mark.parametrize("destination", ["image", "iframe", "empty", "script"])
def test_link_that_is_loaded_as_a_part_of_a_page_is_refused_and_stays_valid(front: Front, destination: str) -> None:
    browser, query = front.service.browser(None), {"code": front.service.code()}
    refused = browser.get("/open", params=query, headers={"sec-fetch-dest": destination})
    assert (refused.status_code, "Open it in a new tab." in refused.text) == (403, True)
    assert browser.get("/open", params=query, headers={"sec-fetch-dest": "document"}).status_code == 303
    assert _is_signed_in(browser)


def test_program_that_looks_at_a_link_does_not_use_it_up(front: Front) -> None:
    browser, query = front.service.browser(None), {"code": front.service.code()}
    looked = browser.head("/open", params=query)
    assert (looked.status_code, "set-cookie" in looked.headers) == (303, False)
    assert browser.get("/open", params=query).status_code == 303
    assert _is_signed_in(browser)


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


def _leave(front: Front, browser: Browser, path: str = "/sign-in/company") -> dict[str, str]:
    """Go to the provider, sign in there, and return the query with which the browser is sent back."""
    response = browser.get(path)
    assert response.status_code == 303, response.text
    return front.provider.authorize(response.headers["location"])


def _arrive(browser: Browser, query: dict[str, str]) -> httpx.Response:
    return browser.get("/sign-in/company/callback", params=query, headers={"sec-fetch-site": "cross-site"})


def test_user_of_an_identity_provider_signs_in(front: Front) -> None:
    browser = front.service.browser(None)
    assert "Example Ltd</a>" in browser.get("/sign-in").text
    arrived = _arrive(browser, _leave(front, browser, "/sign-in/company?next=/queues"))
    assert arrived.headers["location"].endswith("dashboard/queues"), arrived.text
    assert _is_signed_in(browser)
    assert "ada@example.com" in browser.get("/account").text
    assert f"{LOOPBACK_NAME}-sign-in" not in browser.cookies


def test_response_in_another_browser_or_twice_is_refused(front: Front) -> None:
    attacker, victim = front.service.browser(None), front.service.browser(None)
    query = _leave(front, attacker)
    for browser in (victim, attacker, attacker):
        response = _arrive(browser, query)
        if browser is attacker and _is_signed_in(attacker):
            browser.post("/sign-out", headers=SAME_ORIGIN)
            continue
        assert response.status_code == 401
        assert not _is_signed_in(browser)


def test_user_of_a_provider_confirms_by_signing_in_there_again(front: Front) -> None:
    browser = front.service.browser(None)
    front.provider.claims = {"groups": ["staff"]}
    assert _arrive(browser, _leave(front, browser)).status_code == 303
    front.service.advance(15 * 60)
    page = browser.get("/confirm?next=/domains/new").text
    assert "Sign in at Example Ltd again" in page
    assert 'name="password"' not in page
    departure = browser.get("/sign-in/company?next=/domains/new")
    assert "prompt=login" in departure.headers["location"]
    front.provider.claims = {"groups": ["staff"], "auth_time": front.service.control.clock.now() // 1_000 - 61}
    refused = _arrive(browser, front.provider.authorize(departure.headers["location"]))
    assert (refused.status_code, "Example Ltd does not say that you have just signed in" in refused.text) == (401, True)
    assert "/confirm?next=" in browser.get("/domains/new").headers["location"]
    front.provider.claims = {"groups": ["staff"]}
    departure = browser.get("/sign-in/company?next=/domains/new")
    arrived = _arrive(browser, front.provider.authorize(departure.headers["location"]))
    assert arrived.headers["location"].endswith("/domains/new")
    assert browser.get("/domains/new").status_code == 200


def test_form_goes_on_after_a_sign_in_at_the_provider_in_another_tab(front: Front) -> None:
    browser = front.service.browser(None)
    front.provider.claims = {"groups": ["staff"], "email": "mia@example.com"}
    _arrive(browser, front.provider.authorize(browser.get("/sign-in/company").headers["location"], "mia"))
    front.service.advance(15 * 60)
    asked = browser.post("/domains/new", data={"hostname": "hooks.example.org"}, headers=SAME_ORIGIN)
    [link] = re.findall(r'href="[./]*dashboard(/sign-in/company[^"]*)" target="_blank"', asked.text)
    early = browser.post("/confirm", data=_fields(asked.text), headers=SAME_ORIGIN)
    assert (early.status_code, "Sign in again first" in early.text) == (422, True)
    departure = browser.get(link)
    assert "auth_time" in departure.headers["location"]
    arrived = _arrive(browser, front.provider.authorize(departure.headers["location"], "mia"))
    assert arrived.headers["location"].endswith("dashboard/confirmed")
    assert "Your form waits in the other one" in browser.get("/confirmed").text
    fields = _fields(early.text)
    goes_on = browser.post("/confirm", data=fields, headers=SAME_ORIGIN)
    assert (goes_on.status_code, goes_on.headers["location"]) == (307, "../dashboard/domains/new")
    added = browser.post("/domains/new", data=fields, headers=SAME_ORIGIN)
    assert "?done=domain_added" in added.headers["location"], added.text


def test_user_without_a_password_sets_up_a_second_factor_after_confirming(front: Front) -> None:
    browser, path = front.service.browser(None), "/account/second-factor"
    front.provider.claims = {"groups": ["staff"], "email": "eve@example.com"}
    _arrive(browser, front.provider.authorize(browser.get("/sign-in/company").headers["location"], "eve"))
    assert path in browser.get("/account").text
    front.service.advance(15 * 60)
    for refused in (browser.get(path), browser.post(path, headers=SAME_ORIGIN)):
        assert f"/confirm?next={path}" in refused.headers["location"]
    departure = browser.get(f"/sign-in/company?next={path}")
    _arrive(browser, front.provider.authorize(departure.headers["location"], "eve"))
    assert 'name="password"' not in browser.get(path).text
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", browser.post(path, headers=SAME_ORIGIN).text)
    code = _code(front, secret)
    assert browser.post(f"{path}/code", data={"code": code}, headers=SAME_ORIGIN).status_code == 200
    # From then on, a code confirms: not every provider says when the user has signed in.
    front.service.advance(15 * 60)
    for text, status in (("000000", 422), (_code(front, secret), 303)):
        form = {"confirm-next": path, "confirm-code": text}
        assert browser.post("/confirm", data=form, headers=SAME_ORIGIN).status_code == status
    assert browser.post(path, headers=SAME_ORIGIN).headers["location"].endswith("/account?done=factor_removed")


def test_refusal_of_the_provider_is_shown_on_the_sign_in_page(front: Front) -> None:
    browser = front.service.browser(None)
    query = _leave(front, browser)
    response = _arrive(browser, {"state": query["state"], "error": "<script>access_denied"})
    assert response.status_code == 401
    assert "Example Ltd refused the sign-in (&lt;script&gt;access_denied)" in response.text


@pytest.mark.parametrize("cookie", ["", "x", "e30=", "bnVsbA==", "%%%"])
def test_cookie_of_a_sign_in_that_cannot_be_read_is_refused(front: Front, cookie: str) -> None:
    headers = {"cookie": f"{LOOPBACK_NAME}-sign-in={cookie}"}
    response = front.service.browser(None).get("/sign-in/company/callback?state=x&code=x", headers=headers)
    assert (response.status_code, "not started in this browser" in response.text) == (401, True)


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
    arrived = _arrive(member.browser, front.provider.authorize(html.unescape(url), "connected"))
    assert arrived.headers["location"].endswith("/account?done=connected"), arrived.text

    browser = front.service.browser(None)
    query = front.provider.authorize(browser.get("/sign-in/company").headers["location"], "connected")
    _arrive(browser, query)
    assert member.user.email in browser.get("/account").text


def test_provider_that_fails_says_so_on_the_sign_in_page(front: Front) -> None:
    browser = front.service.browser(None)
    query = _leave(front, browser)
    front.provider.responses["/token"] = (500, b"")
    response = _arrive(browser, query)
    front.provider.responses.clear()
    assert (response.status_code, "Example Ltd responded with 500" in response.text) == (503, True)


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
    assert not _is_signed_in(member.browser)


def test_session_alone_connects_no_account(front: Front) -> None:
    """Someone with a stolen session makes the cookie of a connection by themselves."""
    member = front.member()
    query = _leave(front, member.browser)
    name = f"{LOOPBACK_NAME}-sign-in"
    kept = kept_in(member.browser.cookies[name])
    assert kept is not None
    member.browser.cookies.delete(name)
    forged = KeptSignIn(kept.pending, permit="x" * 43).text
    token = member.browser.cookies[LOOPBACK_NAME]
    headers = {"cookie": f"{LOOPBACK_NAME}={token}; {name}={forged}"}
    refused = member.browser.get("/sign-in/company/callback", params=query, headers=headers)
    assert (refused.status_code, "with your password" in refused.text) == (401, True)


def test_user_of_a_provider_is_led_to_sign_out_there_too(front: Front) -> None:
    browser = front.service.browser(None)
    _arrive(browser, _leave(front, browser))
    left = browser.post("/sign-out", headers=SAME_ORIGIN).headers["location"]
    assert left.endswith("/sign-in?from=company")
    assert "Sign out at Example Ltd, too" in browser.get("/sign-in?from=company").text
    assert "Sign out at" not in browser.get("/sign-in?from=other").text
    there = browser.get("/sign-in/company/sign-out").headers["location"]
    assert there.startswith(f"{front.provider.issuer}/logout?client_id={CLIENT_ID}&post_logout_redirect_uri=")
    assert not _is_signed_in(browser)

"""Forms that can give someone access, and the page on which users confirm who they are."""

import re

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.forms import FORM_BYTES
from discue.dashboard.pages import ROUTES
from discue.domain.lockout import FAILURES
from tests.support.dashboard_front import (
    NEW,
    PASSWORD,
    Front,
    arrive,
    code_of,
    hidden_fields,
    is_signed_in,
    leave,
    link_in,
    text_of,
)
from tests.support.dashboards import SAME_ORIGIN

LETS_IN = ("/users/new", "/users/{id}/invite", "/users/{id}/second-factor", "/keys/new", "/domains/new")


def test_forms_for_users_keys_and_domains_need_a_recent_sign_in() -> None:
    lets_nobody_in = {"/users/{id}/sign-out", "/users/{id}/delete", "/domains/{id}"}
    grants = {"users", "api_keys", "domains", "portal", "api_clients"}
    forms = {route.path: route.grants_access for route in ROUTES if route.act and {route.needs, route.writes} & grants}
    assert {path for path, grants_access in forms.items() if not grants_access} == lets_nobody_in


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
    assert not is_signed_in(copied)


def test_form_goes_on_with_its_fields_after_the_password(front: Front) -> None:
    owner, form = front.member("owner"), {"alias": "kept", "scope-queues": "read", "scope-topics": '"<b>'}
    front.service.advance(15 * 60)
    asked = owner.browser.post("/keys/new", data=form, headers=SAME_ORIGIN)
    assert (asked.status_code, asked.headers["cache-control"]) == (200, "no-store")
    wrong = owner.browser.post(
        "/confirm", data={**hidden_fields(asked.text), "confirm-password": NEW}, headers=SAME_ORIGIN
    )
    assert (wrong.status_code, NEW in wrong.text) == (422, False)
    fields = {**hidden_fields(wrong.text), "confirm-password": PASSWORD}
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
    fields = hidden_fields(owner.browser.post(path, headers=SAME_ORIGIN).text)
    sent = {**fields, "confirm-password": PASSWORD}
    refused = other.browser.post("/confirm", data=sent, headers=SAME_ORIGIN)
    assert (refused.status_code, "Another user has signed in" in refused.text) == (403, True)
    assert owner.browser.post("/confirm", data=sent, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    elsewhere = owner.browser.post("/confirm", data={**sent, "confirm-next": "//evil.example"}, headers=SAME_ORIGIN)
    assert elsewhere.headers["location"] == "../dashboard"


def test_form_of_any_accepted_size_is_kept(front: Front) -> None:
    owner = front.member("owner")
    front.service.advance(15 * 60)
    form = {"alias": "x" * (FORM_BYTES - len("alias="))}
    fields = hidden_fields(owner.browser.post("/keys/new", data=form, headers=SAME_ORIGIN).text)
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
    assert (refused.status_code, "Try again in 60 seconds." in text_of(refused)) == (403, True)


def test_session_of_the_command_line_confirms_nothing(front: Front) -> None:
    browser, member = front.service.browser(), front.member()
    front.service.advance(15 * 60)
    assert link_in(browser.post(f"/users/{member.user.public_id}/invite", headers=SAME_ORIGIN))


def test_user_of_a_provider_confirms_by_signing_in_there_again(front: Front) -> None:
    browser = front.service.browser(None)
    front.provider.claims = {"groups": ["staff"]}
    assert arrive(browser, leave(front, browser)).status_code == 303
    front.service.advance(15 * 60)
    page = browser.get("/confirm?next=/domains/new").text
    assert "Sign in at Example Ltd again" in page
    assert 'name="confirm-password"' not in page
    departure = browser.get("/sign-in/company?next=/domains/new")
    assert "prompt=login" in departure.headers["location"]
    front.provider.claims = {"groups": ["staff"], "auth_time": front.service.control.clock.now() // 1_000 - 61}
    refused = arrive(browser, front.provider.authorize(departure.headers["location"]))
    assert (refused.status_code, "Example Ltd does not say that you have just signed in" in refused.text) == (401, True)
    assert "/confirm?next=" in browser.get("/domains/new").headers["location"]
    front.provider.claims = {"groups": ["staff"]}
    departure = browser.get("/sign-in/company?next=/domains/new")
    arrived = arrive(browser, front.provider.authorize(departure.headers["location"]))
    assert arrived.headers["location"].endswith("/domains/new")
    assert browser.get("/domains/new").status_code == 200


def test_form_goes_on_after_a_sign_in_at_the_provider_in_another_tab(front: Front) -> None:
    browser = front.service.browser(None)
    front.provider.claims = {"groups": ["staff"], "email": "mia@example.com"}
    arrive(browser, front.provider.authorize(browser.get("/sign-in/company").headers["location"], "mia"))
    front.service.advance(15 * 60)
    asked = browser.post("/domains/new", data={"hostname": "hooks.example.org"}, headers=SAME_ORIGIN)
    [link] = re.findall(r'href="[./]*dashboard(/sign-in/company[^"]*)" target="_blank"', asked.text)
    early = browser.post("/confirm", data=hidden_fields(asked.text), headers=SAME_ORIGIN)
    assert (early.status_code, "Sign in again first" in early.text) == (422, True)
    departure = browser.get(link)
    assert "auth_time" in departure.headers["location"]
    arrived = arrive(browser, front.provider.authorize(departure.headers["location"], "mia"))
    assert arrived.headers["location"].endswith("dashboard/confirmed")
    assert "Your form waits in the other one" in browser.get("/confirmed").text
    fields = hidden_fields(early.text)
    goes_on = browser.post("/confirm", data=fields, headers=SAME_ORIGIN)
    assert (goes_on.status_code, goes_on.headers["location"]) == (307, "../dashboard/domains/new")
    added = browser.post("/domains/new", data=fields, headers=SAME_ORIGIN)
    assert "?done=domain_added" in added.headers["location"], added.text


def test_user_without_a_password_sets_up_a_second_factor_after_confirming(front: Front) -> None:
    browser, path = front.service.browser(None), "/account/second-factor"
    front.provider.claims = {"groups": ["staff"], "email": "nora@example.com"}
    arrive(browser, front.provider.authorize(browser.get("/sign-in/company").headers["location"], "nora"))
    assert path in browser.get("/account").text
    front.service.advance(15 * 60)
    for refused in (browser.get(path), browser.post(path, headers=SAME_ORIGIN)):
        assert f"/confirm?next={path}" in refused.headers["location"]
    departure = browser.get(f"/sign-in/company?next={path}")
    arrive(browser, front.provider.authorize(departure.headers["location"], "nora"))
    assert 'name="password"' not in browser.get(path).text
    (secret,) = re.findall(r"<pre[^>]*>([A-Z2-7]{32})</pre>", browser.post(path, headers=SAME_ORIGIN).text)
    code = code_of(front, secret)
    assert browser.post(f"{path}/code", data={"code": code}, headers=SAME_ORIGIN).status_code == 200
    # From then on, a code confirms: not every provider says when the user has signed in.
    front.service.advance(15 * 60)
    for text, status in (("000000", 422), (code_of(front, secret), 303)):
        form = {"confirm-next": path, "confirm-code": text}
        assert browser.post("/confirm", data=form, headers=SAME_ORIGIN).status_code == status
    assert browser.post(path, headers=SAME_ORIGIN).headers["location"].endswith("/account?done=factor_removed")

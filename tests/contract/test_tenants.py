"""Organizations, users and domains."""

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.contract.caller import Caller, body, fresh, pointers, problem, resource
from tests.contract.reference import covers
from tests.contract.world import NOWHERE
from tests.support.receiver import Receiver, Reply

# All workers must know an organization, a user and a domain that one of them stores.
SETTINGS_MEANT = ("three workers",)

PLACES = {"/organizations": "organization", "/api_clients": "api_client"}
both = pytest.mark.parametrize("place", PLACES)


def covers_both(*rows: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return covers(*(row.replace("ORGANIZATIONS", place) for row in rows for place in PLACES))


@covers_both("POST ORGANIZATIONS 200", "PUT ORGANIZATIONS 200")
@covers("organizations.md# Create")
@both
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_organization_comes_with_its_first_key_once(operator: Caller, place: str, method: str) -> None:
    alias = f"org.example.{fresh()}"
    content = body(operator.ask(method, place, {"alias": alias}))
    made, key = content[PLACES[place]], content["api_key"]
    assert (made["alias"], made["name"], made["state"]) == (alias, alias, "active")
    assert {"api_clients", "api_keys", "users", "queues"} <= set(key["scopes"])
    shown = operator.get(f"{place}/{made['id']}")
    assert shown[PLACES[place]] == made
    assert "api_key" not in shown
    queues = operator.with_key(key["key"]).get("/queues")["queues"]
    assert [queue["alias"] for queue in queues] == ["system/events"]
    operator.delete(f"{place}/{made['id']}")


@pytest.mark.parametrize("alias", ["example", "com..example", "a.b/c/d", "com.ex ample", ".com.example", "-a.b"])
def test_another_alias_is_unprocessable(operator: Caller, alias: str) -> None:
    assert pointers(operator.refused(422, "POST", "/organizations", {"alias": alias})) == ["/alias"]


def test_without_an_alias_it_is_called_by_its_creators_and_its_id(operator: Caller) -> None:
    made = operator.create("/api_clients")
    assert made["alias"].endswith(f".{made['id']}")
    operator.delete(f"/api_clients/{made['id']}")


@covers_both("PUT ORGANIZATIONS/{organization_id} 200", "PUT ORGANIZATIONS/{organization_id} 422")
@covers_both("PUT ORGANIZATIONS/{organization_id} 403 limits")
@both
def test_an_organization_is_changed(owner: Caller, operator: Caller, place: str) -> None:
    mine = owner.get(place)[PLACES[place] + "s"]
    assert len(mine) == 1
    path = f"{place}/{mine[0]['id']}"
    alias = f"org.example.{fresh()}"
    assert owner.change(path, name=alias)["alias"] == alias
    assert operator.change(path, rate_limit=50_000, retention=60)["rate_limit"] == 50_000
    assert "rate_limit" not in operator.change(path, rate_limit=None)
    owner.refused(403, "PUT", path, {"rate_limit": 5})
    operator.refused(422, "PUT", path, {"rate_limit": -1})
    owner.refused(422, "PUT", path, {"alias": None})


def test_retry_policy_of_an_organization_applies_where_queue_and_listener_have_none(
    operator: Caller, receiver: Receiver
) -> None:
    content = body(operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh()}", "retry": [7]}))
    path, tenant = f"/organizations/{content['organization']['id']}", operator.with_key(content["api_key"]["key"])
    assert content["organization"]["retry"] == {"schedule": [7]}
    queue = f"/queues/{tenant.create('/queues')['id']}"
    endpoint = receiver.endpoint(Reply(500))
    listener = f"{queue}/listeners/{tenant.create(f'{queue}/listeners', notify_url=endpoint.url)['id']}"
    assert tenant.shown(listener)["effective"]["retry"]["schedule"] == [7]

    wrong = {"retry": {"schedule": [0], "jitter": 2}}
    assert pointers(tenant.refused(422, "PUT", path, wrong)) == ["/retry/schedule/0", "/retry/jitter"]
    assert tenant.change(path, retry={"attempts": 1})["retry"] == {"attempts": 1}
    tenant.until(listener, lambda shown: shown["effective"]["retry"]["attempts"] == 1)
    tenant.create(f"{queue}/messages", data="x")
    tenant.until(listener, lambda shown: shown["messages"]["missed_count"] == 1)
    assert len(endpoint.received) == 1

    tenant.change(queue, retry={"jitter": 0})
    policy = tenant.shown(listener)["effective"]["retry"]
    assert (policy["attempts"], policy["jitter"]) == (1, 0)
    assert "retry" not in tenant.change(path, retry=None)
    tenant.until(listener, lambda shown: shown["effective"]["retry"]["attempts"] == 12)
    operator.delete(path)


@covers_both("POST ORGANIZATIONS 402", "PUT ORGANIZATIONS 402")
@covers_both("PUT ORGANIZATIONS/{organization_id} 402", "PUT ORGANIZATIONS/{organization_id} 409")
@both
def test_tenants_create_organizations_as_far_as_the_operator_allows(operator: Caller, place: str) -> None:
    content = body(operator.ask("POST", place, {"alias": f"org.example.{fresh()}"}))
    tenant = operator.with_key(content["api_key"]["key"])
    path = f"{place}/{content[PLACES[place]]['id']}"
    made = []
    while (answer := tenant.ask("POST", place, {})).status_code == 200:
        made.append(body(answer)[PLACES[place]])
    # A service that does not let tenants create any refuses the first one.
    assert answer.status_code == (402 if made else 403)
    tenant.refused(answer.status_code, "PUT", place, {})
    tenant.refused(answer.status_code, "PUT", f"{place}/{content[PLACES[place]]['alias']}.more", {})
    for each in made:
        assert each["alias"].startswith(f"{content[PLACES[place]]['alias']}.")
        tenant.refused(409, "PUT", path, {"alias": f"org.example.{fresh()}"})
        operator.delete(f"{place}/{each['id']}")
    operator.delete(path)


@covers_both("DELETE ORGANIZATIONS/{organization_id} 200", "DELETE ORGANIZATIONS/{organization_id} 409")
@covers("organizations.md# Change and delete")
@both
def test_deleting_an_organization_deletes_all_that_is_in_it(operator: Caller, place: str) -> None:
    alias = f"org.example.{fresh()}"
    content = body(operator.ask("POST", place, {"alias": alias}))
    owner = operator.with_key(content["api_key"]["key"])
    owner.create("/queues")
    assert list(operator.delete(f"{place}/{content[PLACES[place]]['id']}")) == ["_links"]
    operator.refused(404, "GET", f"{place}/{content[PLACES[place]]['id']}")
    again = operator.create(place, alias=alias)
    operator.delete(f"{place}/{again['id']}")
    operators = operator.get(f"{place}?per_page=100&page=1")
    while "next" in operators["_links"]:
        operators = operator.get(operators["_links"]["next"]["href"])
    operator.refused(409, "DELETE", f"{place}/{operators[PLACES[place] + 's'][-1]['id']}")


@covers("POST /users 200", "PUT /users 200", "PUT /users/{user_id} 200", "DELETE /users/{user_id} 200")
@covers("users.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_user_is_a_member(owner: Caller, method: str) -> None:
    fields = {"email": f"Ada-{fresh()}@Example.com", "display_name": "Ada", "role": "developer"}
    answer = owner.ask(method, "/users", fields)
    made = body(answer)["user"]
    path = f"/users/{made['id']}"
    assert {name: made[name] for name in fields} == fields
    assert made["alias"] == made["name"] == made["email"]
    assert answer.json()["invitation"]["url"].endswith(f"/dashboard/invitation#{answer.json()['invitation']['token']}")
    assert owner.get(path)["user"] == made
    assert "invitation" not in owner.get(path)
    assert {**owner.change(path, **made), "updated_at": 0} == {**made, "updated_at": 0}
    changed = owner.change(path, role="viewer", display_name=None)
    assert (changed["role"], changed["display_name"], changed["email"]) == ("viewer", "", fields["email"])
    assert owner.get(f"/users?alias={fields['email'].upper()}")["users"] == [changed]
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers("PUT /users/{user_id} 422")
@pytest.mark.parametrize("role", ["owner", "admin", "developer", "viewer"])
def test_a_user_has_one_of_four_roles(owner: Caller, role: str) -> None:
    made = owner.create("/users", email=f"{fresh()}@example.com", role=role, password="correct horse battery")
    assert (made["role"], made["state"]) == (role, "active")
    assert "password" not in made
    owner.refused(422, "PUT", f"/users/{made['id']}", {"role": "king"})
    for fields, pointer in (
        ({"email": made["email"]}, "/email"),
        ({"email": "ada"}, "/email"),
        ({"email": f"{fresh()}@example.com", "password": "short"}, "/password"),
    ):
        assert pointers(owner.refused(422, "POST", "/users", {"role": role, **fields})) == [pointer]
    owner.refused(400, "POST", "/users", {"email": f"{fresh()}@example.com", "role": role, "password": None})


@pytest.mark.parametrize(
    ("fields", "missing"),
    [({"email": "a@b.c"}, ["role"]), ({"role": "viewer"}, ["email"]), ({"display_name": "Ada"}, ["email", "role"])],
)
def test_user_without_email_or_role_is_refused_by_what_is_missing(
    owner: Caller, fields: dict[str, str], missing: list[str]
) -> None:
    refused = owner.refused(400, "POST", "/users", fields)
    assert pointers(refused) == [f"/{name}" for name in missing]
    assert refused["detail"] == f"The request body lacks {' and '.join(missing)}."


@covers("PUT /users/{user_id} 409", "DELETE /users/{user_id} 409")
def test_the_last_active_owner_stays(owner: Caller) -> None:
    made = owner.create("/users", email=f"{fresh()}@example.com", role="owner", password="correct horse battery")
    owner.refused(409, "DELETE", f"/users/{made['id']}")
    owner.refused(409, "PUT", f"/users/{made['id']}", {"role": "viewer"})


@covers("POST /invitations 200", "POST /invitations 404", "POST /invitations 422", "users.md# Invite")
def test_an_invitation_is_accepted_once(owner: Caller, stranger: Caller) -> None:
    answer = owner.ask("POST", "/users", {"email": f"{fresh()}@example.com", "role": "viewer"})
    void = body(answer)["invitation"]["token"]
    assert resource(answer)["state"] == "invited"
    again = body(owner.ask("PUT", f"/users/{resource(answer)['id']}", {"invite": True}))
    token = again["invitation"]["token"]
    stranger.refused(422, "POST", "/invitations", {"token": token, "password": "x"})
    accepted = stranger.ask("POST", "/invitations", {"token": token, "password": "correct horse battery"})
    assert resource(accepted) == {**again["user"], "state": "active", "updated_at": resource(accepted)["updated_at"]}
    refused = [
        stranger.refused(404, "POST", "/invitations", {"token": each, "password": "correct horse battery"})
        for each in (token, void, "x" * 32)
    ]
    assert len({each["detail"] for each in refused}) == 1


@covers("POST /invitations 403")
def test_guessing_invitations_locks_out_but_no_keys(stranger: Caller, owner: Caller) -> None:
    guess = {"token": "x" * 32, "password": "correct horse battery"}
    statuses = [stranger.ask("POST", "/invitations", guess).status_code for _ in range(25)]
    assert set(statuses) == {404}
    assert problem(stranger.ask("POST", "/invitations", guess), 403)["code"] == "locked_out"
    stranger.with_key(owner.key).until_status(200, "/queues")


@covers("POST /domains 200", "PUT /domains 200", "domains.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_domain_comes_with_its_challenge(owner: Caller, method: str) -> None:
    made = resource(owner.ask(method, "/domains", {"hostname": "Shop.Example.com", "port": 80}))
    assert (made["hostname"], made["port"]) == ("Shop.Example.com", 80)
    https = made["challenge"]["https"]
    assert https["context_path"] == ".well-known/discue"
    assert https["expires_at"] - https["created_at"] == 7 * 86_400_000
    assert min(len(https["file_name"]), len(https["file_content"])) >= 21
    assert made["verification"] == {"verified": False, "verified_at": 0, "checked_at": 0, "last_error": ""}
    assert owner.shown(f"/domains/{made['id']}") == made
    assert owner.create("/domains", alias="shop", hostname="shop.example.com")["port"] == 443
    assert pointers(owner.refused(422, method, "/domains", {"alias": "shop", "hostname": "a.example"})) == ["/alias"]


@pytest.mark.parametrize("port", [80, 443, 1024, 65535])
def test_a_port_is_80_443_or_unprivileged(owner: Caller, port: int) -> None:
    assert owner.create("/domains", hostname="example.com", port=port)["port"] == port


@pytest.mark.parametrize(
    ("field", "value"),
    [("port", 0), ("port", 81), ("port", 1023), ("port", 65536), ("port", -443), ("hostname", "https://a.example")]
    + [("hostname", "a.b"), ("hostname", "x" * 254)]
    + [("hostname", each) for each in ("192.0.2.1", "under score.example.com", "-a.example.com", "a..example.com")],
)
def test_another_place_is_unprocessable(owner: Caller, field: str, value: object) -> None:
    content = {"hostname": "example.com", field: value}
    assert pointers(owner.refused(422, "POST", "/domains", content)) == [f"/{field}"]


@covers("PUT /domains/{domain_id} 200", "PUT /domains/{domain_id} 422", "DELETE /domains/{domain_id} 200")
def test_hostname_and_port_stand_for_ever(owner: Caller) -> None:
    made = owner.create("/domains", hostname="example.com", port=8080)
    path = f"/domains/{made['id']}"
    changed = owner.change(path, **{**made, "verification": {"verified": True}, "alias": "renamed"})
    assert {**changed, "updated_at": 0} == {**made, "alias": "renamed", "name": "renamed", "updated_at": 0}
    assert owner.change(path, alias=None)["alias"] == made["id"]
    refused = owner.refused(422, "PUT", path, {"hostname": "example.org", "port": 8081})
    assert sorted(pointers(refused)) == ["/hostname", "/port"]
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers("PUT /domains/{domain_id}/verification 200", "domains.md# Verify", "domains.md: no connection")
def test_a_domain_is_looked_at_at_once_on_demand(owner: Caller) -> None:
    path = f"/domains/{owner.create('/domains', hostname='localhost', port=1031)['id']}"
    found = resource(owner.ask("PUT", f"{path}/verification"))["verification"]
    assert (found["verified"], found["verified_at"], found["last_error"]) == (False, 0, "no connection")
    assert found["checked_at"] > 0


@covers("domains.md: name not found")
def test_a_name_that_leads_nowhere_is_not_verified(owner: Caller) -> None:
    path = f"/domains/{owner.create('/domains', hostname='nowhere.invalid')['id']}"
    assert not resource(owner.ask("PUT", f"{path}/verification"))["verification"]["verified"]


@covers("domains.md: TLS failed")
def test_a_place_without_tls_is_not_verified(owner: Caller, receiver: Receiver) -> None:
    port = urlsplit(receiver.endpoint().url).port
    path = f"/domains/{owner.create('/domains', hostname='localhost', port=port)['id']}"
    found = resource(owner.ask("PUT", f"{path}/verification"))["verification"]
    assert (found["verified"], found["last_error"]) == (False, "TLS failed")


@covers("domains.md# Listeners on verified domains only")
def test_with_required_domains_listeners_must_lie_on_one(owner: Caller) -> None:
    organization = owner.get("/organizations")["organizations"][0]
    assert organization["require_verified_domains"] is False
    place = f"/organizations/{organization['id']}"
    assert pointers(owner.refused(400, "PUT", place, {"require_verified_domains": "yes"}))
    assert owner.change(place, require_verified_domains=True)["require_verified_domains"] is True
    path = f"/queues/{owner.create('/queues')['id']}/listeners"
    urls = {"notify_url": "https://hooks.example.com/notify", "liveness_url": "https://live.example.com/"}
    for hostname, pointer in (("hooks.example.com", "/notify_url"), ("live.example.com", "/liveness_url")):
        assert pointers(owner.refused(422, "POST", path, urls)) == [pointer]
        owner.create("/domains", hostname=hostname)
    assert owner.create(path, **urls)["notify_url"] == urls["notify_url"]
    assert owner.change(place, require_verified_domains=None)["require_verified_domains"] is False
    owner.create(path, **NOWHERE)

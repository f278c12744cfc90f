"""Calls that are about users: roles, passwords, invitations."""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.calls.collection import Calls, call, need, require, require_refused, which, who
from tests.fuzz.model.collection import Item
from tests.fuzz.model.users import PASSWORD, ROLES, Member


class UserCalls(Calls):
    def _member(self, organization: int, number: int) -> Member:
        members = [item for item in self.models[organization].users.items if isinstance(item, Member)]
        need(members)
        return members[number % len(members)]

    def _accept(self, token: str | None, password: str = PASSWORD) -> Any:
        """From an address of its own: wrong tokens would lock it out."""
        return self.service.client(None).post("/invitations", json={"token": token, "password": password})

    @call(organization=who, number=which, role=st.sampled_from(ROLES))
    def give_a_role(self, organization: int, number: int, role: str) -> None:
        users, member = self.models[organization].users, self._member(organization, number)
        answer = self.clients[organization].put(f"/users/{member.id}", json={"role": role})
        if users.keeps(member) and role != "owner":
            require(answer, 409)
        else:
            member.details["role"] = require(answer, 200)["user"]["role"]
            assert member.details["role"] == role
        self._reads(organization, users, member)

    @call(organization=who, role=st.sampled_from(["admin", "developer", "viewer"]))
    def take_the_last_owner_away(self, organization: int, role: str) -> None:
        """Try to remove the last owner: refused until another owner has accepted an invitation."""
        users, client = self.models[organization].users, self.clients[organization]
        last = next((item for item in users.items if users.keeps(item)), None) or self._owner(organization)
        need(users.keeps(last))
        require(client.delete(f"/users/{last.id}"), 409)
        require(client.put(f"/users/{last.id}", json={"role": role, "display_name": "Nobody"}), 409)
        self._reads(organization, users, last)
        self._owner(organization)
        require(client.delete(f"/users/{last.id}"), 200)
        self.models[organization].deleted(users, last)

    def _owner(self, organization: int) -> Item:
        """A new one, who is active."""
        users = self.models[organization].users
        body = {**users.body(users.called(None)), "role": "owner", "password": PASSWORD}
        answer = self.clients[organization].post("/users", json=body)
        self._created(organization, users, body, answer)
        return users.items[-1]

    @call(organization=who, number=which, invite=st.booleans())
    def enter_or_be_invited_again(self, organization: int, number: int, *, invite: bool) -> None:
        """Either makes the invitation before void."""
        model, member = self.models[organization], self._member(organization, number)
        body = {"invite": True} if invite else {"password": PASSWORD}
        answer = require(self.clients[organization].put(f"/users/{member.id}", json=body), 200)
        model.void += [member.token] if member.token else []
        if invite:
            member.token = answer["invitation"]["token"]
        else:
            assert "invitation" not in answer
            member.entered()
        self._reads(organization, model.users, member)

    @call(organization=who, number=which)
    def spell_the_email_in_another_way(self, organization: int, number: int) -> None:
        """It comes back so, is the same user's, and is still taken."""
        users, member = self.models[organization].users, self._member(organization, number)
        spelt = member.alias.swapcase()
        body = users.body(spelt)
        require_refused(self.clients[organization].post("/users", json=body), {"/email"})
        require(self.clients[organization].put(f"/users/{member.id}", json={"email": spelt}), 200)
        member.alias = spelt
        self._reads(organization, users, member)

    @call(organization=who, number=which)
    def send_what_is_no_password(self, organization: int, number: int) -> None:
        users, member = self.models[organization].users, self._member(organization, number)
        client, path = self.clients[organization], f"/users/{member.id}"
        for unfit in ({"password": "short"}, {"password": PASSWORD, "invite": True}):
            require_refused(client.put(path, json={**unfit, "display_name": "nobody"}), {"/password"})
        require_refused(client.put(path, json={"role": "king"}), {"/role"})
        require_refused(self._accept(member.token or "none", "short"), {"/password"})
        self._reads(organization, users, member)

    @call(organization=who, number=which)
    def accept_an_invitation(self, organization: int, number: int) -> None:
        """Once."""
        model, member = self.models[organization], self._member(organization, number)
        need(member.token)
        assert require(self._accept(member.token), 200)["user"]["id"] == member.id
        model.void += [str(member.token)]
        member.entered()
        require(self._accept(model.void[-1]), 404)
        self._reads(organization, model.users, member)

    @call(organization=who, number=which)
    def accept_what_is_void(self, organization: int, number: int) -> None:
        void = self.models[organization].void
        need(void)
        require(self._accept(void[number % len(void)]), 404)

"""Calls that are about domains: places that stand for ever, and listeners that must lie on them."""

from hypothesis import strategies as st

from tests.fuzz.calls.collection import Calls, call, need, require, require_refused, which, who
from tests.fuzz.model.collection import Item
from tests.fuzz.model.domains import URLS, Listeners

LISTENER_URLS = ("notify_url", "liveness_url")


class DomainCalls(Calls):
    def _domain(self, organization: int, number: int) -> Item:
        items = self.models[organization].domains.items
        need(items)
        return items[number % len(items)]

    @call(organization=who, number=which, field=st.sampled_from(["hostname", "port"]))
    def move_a_domain(self, organization: int, number: int, field: str) -> None:
        """It stands where it is. To say where that is, is fine."""
        domains, domain = self.models[organization].domains, self._domain(organization, number)
        client, path = self.clients[organization], f"/domains/{domain.id}"
        elsewhere = {"hostname": "other.example.com", "port": 4_711}[field]
        require_refused(client.put(path, json={field: elsewhere, "alias": "moved"}), {f"/{field}"})
        require(client.put(path, json={field: domain.details[field]}), 200)
        self._reads(organization, domains, domain)

    @call(organization=who, number=which)
    def verify_a_domain(self, organization: int, number: int) -> None:
        """Verify a domain on this machine, where no server responds."""
        domains, domain = self.models[organization].domains, self._domain(organization, number)
        path = f"/domains/{domain.id}/verification"
        require(self.clients[1 - organization].put(path), 404)
        need(domain.details["hostname"] == "localhost")
        shown = require(self.clients[organization].put(path), 200)["domain"]
        assert shown["verification"]["last_error"] == "no connection"
        domains.require_shown(domain, shown)

    @call(organization=who, wanted=st.booleans(), by_operator=st.booleans())
    def require_domains(self, organization: int, *, wanted: bool, by_operator: bool) -> None:
        model = self.models[organization]
        client = self.operator if by_operator else self.clients[organization]
        answer = client.put(f"/organizations/{model.id}", json={"require_verified_domains": wanted})
        assert require(answer, 200)["organization"]["require_verified_domains"] is wanted
        model.requires_domains = wanted

    @call(organization=who, number=which, field=st.sampled_from(LISTENER_URLS), url=st.sampled_from(URLS))
    def send_a_listener_elsewhere(self, organization: int, number: int, field: str, url: str) -> None:
        """To where it is, always; else to a domain, if there must be one."""
        model = self.models[organization]
        all_listeners = [each for each in model.collections.values() if isinstance(each, Listeners)]
        known = [(each, item) for each in all_listeners for item in each.items]
        need(known)
        listeners, listener = known[number % len(known)]
        answer = self.clients[organization].put(f"{listeners.path}/{listener.id}", json={field: url})
        if places := model.refusals(listeners, {field: url}, listener):
            require_refused(answer, places)
        else:
            assert require(answer, 200)["listener"][field] == url
            listener.details[field] = url
        self._reads(organization, listeners, listener)

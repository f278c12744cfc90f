"""Domains: whether each is verified, the file that verifies it, and forms that add, check and delete one."""

from typing import Final

from discue.control import domains
from discue.control.domains import DomainFields
from discue.dashboard.listing import selection_of, shown
from discue.dashboard.visit import Page, PageRoute, Redirect, Visit, form_route, plain_page
from discue.domain.domain_challenge import target_of
from discue.domain.errors import invalid


async def show(visit: Visit) -> Page:
    found = await domains.page(visit.control, visit.principal, selection_of(visit, "alias"))
    page = shown(visit, found, [each.public_id for each in found.items], "alias")
    return Page("domains.html", "Domains", {"list": page})


async def create(visit: Visit) -> Redirect:
    hostname = visit.form.get("hostname", "").strip()
    made = await domains.create(visit.control, visit.principal, DomainFields(hostname or None, hostname=hostname))
    return Redirect(f"/domains/{made.public_id}", "domain_added")


async def show_domain(visit: Visit) -> Page:
    domain = await domains.get(visit.control, visit.principal, visit.ids[0])
    target = target_of(domain.host_key, domain.port, domain.challenge)
    address = f"{target.scheme}://{target.authority}{target.path}"
    return Page("domain.html", domain.alias, {"domain": domain, "address": address})


async def act(visit: Visit) -> Redirect:
    action = visit.form.get("action", "")
    if action == "delete":
        await domains.delete(visit.control, visit.principal, visit.ids[0])
        return Redirect("/domains", "domain_deleted")
    if action != "check":
        raise invalid("/action", "must be check or delete")
    await domains.verify(visit.control, visit.principal, visit.ids[0], visit.services.domain_checks)
    return Redirect(f"/domains/{visit.ids[0]}", "domain_checked")


ROUTES: Final = (
    PageRoute("/domains", show, needs="domains"),
    form_route("/domains/new", plain_page("domain_new.html", "New domain"), create, "domains", grants_access=True),
    PageRoute("/domains/{id}", show_domain, act, needs="domains", waits=True),
)

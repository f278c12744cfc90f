"""The first organization of an installation: the operator's."""

from discue.control import founding, key_making
from discue.control.context import ControlContext
from discue.control.founding import NewOrganization
from discue.domain.model import Organization
from discue.store import organizations
from discue.store.engine import Transaction


async def ensure_operator(control: ControlContext, alias: str, key: str | None) -> tuple[Organization, str | None]:
    """Make the operator's organization on an empty database; elsewhere change nothing.

    Returns it, and the text of its first key if that was made now. `key` is that text where the operator
    chose one.
    Raises Unprocessable for an unfit alias, SettingsInvalid for a key that is none.
    """
    organization = founding.draft(control, control.public_ids.next(), alias, is_operator=True)
    created = NewOrganization(organization, key_making.first(control, organization.id, key))
    founded = founding.by(control, organization, None)

    async def work(tx: Transaction) -> Organization | None:
        require_found = await organizations.operator(tx)
        if require_found is None:
            await founding.insert(tx, created, founded)
        return require_found

    require_found = await control.write(work)
    return (organization, created.first_key.text) if require_found is None else (require_found, None)

"""The first organization of an installation: the operator's."""

from discue.control import founding, key_making
from discue.control.context import Control
from discue.control.founding import CreatedOrganization
from discue.domain.model import Organization
from discue.store import organizations
from discue.store.engine import Transaction


async def ensure_operator(control: Control, alias: str, key: str | None) -> tuple[Organization, str | None]:
    """Make the operator's organization on an empty database; elsewhere change nothing.

    Returns it, and the text of its first key if that was made now. `key` is that text where the operator
    chose one.
    Raises Unprocessable for an unfit alias, SettingsInvalid for a key that is none.
    """
    organization = founding.draft(control, control.public_ids.next(), alias, is_operator=True)
    created = CreatedOrganization(organization, key_making.first(control, organization.id, key))
    founded = founding.by(control, organization, None)

    async def work(tx: Transaction) -> Organization | None:
        present = await organizations.operator(tx)
        if present is None:
            await founding.insert(tx, created, founded)
        return present

    present = await control.write(work)
    return (organization, created.first_key.text) if present is None else (present, None)

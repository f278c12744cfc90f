"""The state of the installation: for its own managers only, and without secrets."""

from dataclasses import replace

import pytest

from discue.control import installation
from discue.control.context import ControlContext
from discue.control.installation import quantile
from discue.dashboard.users.users import ROLES, scopes_of_role
from discue.domain.errors import Forbidden
from discue.domain.scopes import Principal
from discue.observability.metrics import Histogram
from tests.support.cast import Cast

KEY = "dsk_" + "a" * 64
DATABASE = "postgresql://discue:hunter2@db.example/discue"
"""It is not opened: the settings name it."""


def _user(principal: Principal, role: str) -> Principal:
    (known,) = [each for each in ROLES if each == role]
    return replace(principal, scopes=scopes_of_role(known), role=known)


@pytest.mark.parametrize("role", ROLES)
async def test_only_owners_and_admins_of_the_operator_see_it(cast: Cast, control: ControlContext, role: str) -> None:
    operator = replace(_user(cast.alice.principal, role), is_operator=True)
    control = replace(control, settings=replace(control.settings, database=DATABASE))
    if role in {"owner", "admin"}:
        assert (await installation.state(control, operator)).commits
        assert installation.settings_in_effect(control, operator)
    else:
        with pytest.raises(Forbidden):
            await installation.state(control, operator)
    with pytest.raises(Forbidden):
        installation.settings_in_effect(control, replace(operator, is_operator=False))


def test_settings_hide_secrets_and_name_their_source(cast: Cast, control: ControlContext) -> None:
    operator = replace(_user(cast.alice.principal, "owner"), is_operator=True)
    settings = replace(
        control.settings,
        bootstrap_key=KEY,
        database=DATABASE,
        origins={"bootstrap_key": "DISCUE_BOOTSTRAP_KEY"},
    )
    found = installation.settings_in_effect(replace(control, settings=settings), operator)
    shown = {each.setting.name: (each.value, each.origin) for each in found}
    assert shown["bootstrap_key"] == ("[secret]", "DISCUE_BOOTSTRAP_KEY")
    assert "hunter2" not in shown["database"][0]
    assert shown["metrics_key"] == ("none", "")


def test_quantile_is_the_bound_of_a_bucket() -> None:
    observed = Histogram((0.001, 0.01, 0.1))
    assert quantile(observed, 0.5) == 0.0
    for seconds in (0.0005, 0.0005, 0.05, 7.0):
        observed.observe(seconds)
    assert [quantile(observed, share) for share in (0.5, 0.75, 0.99)] == [0.001, 0.1, float("inf")]

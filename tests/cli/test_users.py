import json
from pathlib import Path

import pytest

from tests.cli.commands import run
from tests.support.databases import on_sqlite_only

pytestmark = pytest.mark.usefixtures("every_engine")

EMAIL = "ada@example.com"


def test_first_user_is_created_listed_and_gets_another_link(tmp_path: Path) -> None:
    run(tmp_path, "init")
    assert run(tmp_path, "users", "list").stdout.endswith("has no users. Run `discue users create EMAIL`.\n")

    created = run(tmp_path, "users", "create", EMAIL, DISCUE_PORT="3210").stdout
    assert created.startswith(f"{EMAIL} is an owner of ")
    assert "\nhttp://127.0.0.1:3210/dashboard/invitation#" in created
    assert "set `public_url`" in created
    link = run(tmp_path, "users", "link", "ADA@example.com", "--json", DISCUE_PUBLIC_URL="https://hooks.example.com/")
    found = json.loads(link.stdout)
    assert found["url"].startswith("https://hooks.example.com/dashboard/invitation#")
    assert (found["user"]["email"], found["user"]["role"], found["user"]["state"]) == (EMAIL, "owner", "invited")
    link = run(tmp_path, "users", "link", EMAIL, DISCUE_DASHBOARD="false")
    assert "/v1/invitations#" in link.stdout
    assert f"\n{EMAIL}\n  owner, invited; created " in run(tmp_path, "users", "list").stdout


@on_sqlite_only
def test_link_in_the_folder_of_discue_dev_leads_to_its_port(tmp_path: Path) -> None:
    folder = tmp_path / ".discue"
    folder.mkdir()
    run(tmp_path, "init", "--database", "sqlite:///.discue/discue.db")
    (folder / "url").write_text("http://127.0.0.1:3003\n")
    assert "\nhttp://127.0.0.1:3003/dashboard/invitation#" in run(tmp_path, "users", "create", EMAIL).stdout

    (folder / "url").write_text("http://evil.example.com\n")
    created = run(tmp_path, "users", "create", "bob@example.com").stdout
    assert "evil.example.com" not in created
    assert "/dashboard/invitation#" in created


@on_sqlite_only
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", EMAIL), "is taken"),
        (("create", "ada"), "discue: EMAIL must be an address of 3 to 254 characters with one @ and no spaces.\n"),
        (("link", "bob@example.com"), "has no user bob@example.com. Run `discue users list` to see its users."),
        (("list", "--organization", "com.example.none"), "Organization com.example.none not found."),
    ],
    ids=str,
)
def test_user_that_cannot_be_made_or_found_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    run(tmp_path, "init")
    run(tmp_path, "users", "create", EMAIL, "--role", "viewer")

    result = run(tmp_path, "users", *arguments)
    assert (result.returncode, message in result.stderr) == (1, True), result.stderr

"""Backups in a bucket of an S3-compatible store."""

import os
import ssl
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from botocore.loaders import Loader, create_loader

from discue.backup import bucket
from discue.backup import destination as destinations
from discue.backup.archive import HEADER_BYTES
from discue.backup.create import BackupPlan
from discue.domain.errors import DiscueError, SettingsInvalid
from tests.backup.databases import messages_in
from tests.backup.fake_s3 import FakeS3, serving_s3
from tests.backup.plans import chosen, made, new_plan, restored
from tests.cli.commands import run
from tests.cli.user.local_server import local_server
from tests.support.authority import authority_file, server_context
from tests.support.clocks import NOON
from tests.support.ports import free_port

_DAY_MS = 86_400_000


@cache
def _loader() -> Loader:
    return create_loader()


@pytest.fixture(autouse=True)
def _models_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the descriptions of services, which each session of the library reads again."""
    monkeypatch.setattr("botocore.session.create_loader", lambda _: _loader())


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    with serving_s3() as store:
        yield store


@pytest.fixture
def plan(s3: FakeS3, tmp_path: Path) -> BackupPlan:
    return new_plan(tmp_path)._replace(destination="s3://bucket/some prefix/a&b")


def test_backup_in_a_bucket_is_restored(s3: FakeS3, plan: BackupPlan, tmp_path: Path) -> None:
    backup = made(plan, environ=s3.environ)

    assert backup.path.startswith("s3://bucket/some prefix/a&b/discue-")
    assert list(s3.objects) == [backup.path.removeprefix("s3://")]
    for named in ("s3://bucket/some prefix/a&b", backup.path):
        target = tmp_path / "new.db"
        with chosen(named, None, tmp_path, s3.environ) as found:
            assert found.name == backup.path
            restored(found.path, target)
        assert messages_in(target) == 40
        target.unlink()
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"discue.db", "discue.db.backup-lock", "backups", "new.db.serving"}
    assert names == expected, "nothing is left of uploads and downloads"


def test_backup_of_a_time_is_found_among_pages(s3: FakeS3, plan: BackupPlan, tmp_path: Path) -> None:
    s3.objects["bucket/some prefix/a&b/notes.txt"] = b"not a backup"
    paths = [made(plan, NOON + day * _DAY_MS, s3.environ).path for day in range(5)]

    for at, path in ((None, paths[4]), (NOON + 3 * _DAY_MS + 1, paths[3])):
        with chosen(plan.destination, at, tmp_path, s3.environ) as found:
            assert found.name == path


def test_old_backups_in_a_bucket_are_deleted_if_they_are_whole(s3: FakeS3, plan: BackupPlan) -> None:
    whole, damaged = made(plan, NOON - 9 * _DAY_MS, s3.environ), made(plan, NOON - 8 * _DAY_MS, s3.environ)
    key = damaged.path.removeprefix("s3://")
    s3.objects[key] = s3.objects[key][:-1]
    foreign = key.replace(damaged.header.installation, "fedcba9876543210")
    s3.objects[foreign] = s3.objects[whole.path.removeprefix("s3://")]

    result = made(plan._replace(keep_seconds=7 * 86_400.0), environ=s3.environ)

    assert result.deleted == [whole.path]
    assert len(result.problems) == 1
    assert f"The backup {damaged.path} is damaged: it is truncated" in result.problems[0]
    assert list(s3.objects) == [key, foreign, result.path.removeprefix("s3://")]


def test_store_that_goes_away_during_an_upload_has_no_backup(s3: FakeS3, plan: BackupPlan, tmp_path: Path) -> None:
    s3.breaks_after = 8_192
    with pytest.raises(DiscueError, match=r"s3://bucket/some prefix/a&b cannot be reached at 127\.0\.0\.1:\d+: "):
        made(plan, environ=s3.environ)

    assert s3.objects == {}
    assert {path.name for path in tmp_path.iterdir()} == {"discue.db", "discue.db.backup-lock", "backups"}
    s3.breaks_after = None
    assert made(plan, environ=s3.environ).path.removeprefix("s3://") in s3.objects


def test_store_that_goes_away_after_an_upload_has_the_backup(s3: FakeS3, plan: BackupPlan) -> None:
    s3.is_down_after = "PUT"
    result = made(plan._replace(keep_seconds=7 * 86_400.0), environ=s3.environ)

    assert result.path.removeprefix("s3://") in s3.objects
    refused = "refused ListObjectsV2 with 503 SlowDown: Please reduce your request rate."
    assert result.problems == [f"{plan.destination} {refused}"]


def test_store_that_goes_away_during_a_download_restores_nothing(s3: FakeS3, plan: BackupPlan, tmp_path: Path) -> None:
    backup = made(plan, environ=s3.environ)
    s3.breaks_after = HEADER_BYTES + 10
    with (
        pytest.raises(DiscueError, match=r"s3://bucket/some prefix/a&b stopped sending: "),
        chosen(backup.path, None, tmp_path, s3.environ) as found,
    ):
        restored(found.path, tmp_path / "new.db")

    assert {path.name for path in tmp_path.iterdir()} == {"discue.db", "discue.db.backup-lock", "backups"}


def test_work_does_not_begin_without_the_store(s3: FakeS3, plan: BackupPlan) -> None:
    s3.is_down = True
    with pytest.raises(DiscueError, match=r"s3://.* with 503 SlowDown: Please reduce your request rate\."):
        made(plan, environ=s3.environ)

    assert len(s3.requests) == 1


@pytest.mark.parametrize(
    ("changes", "named", "reason"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "s3://bucket",
            "refused ListObjectsV2 with 403 SignatureDoesNotMatch: The",
        ),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "s3://bucket", "refused ListObjectsV2 with 403 SignatureDoesNotMatch: The"),
        ({}, "s3://other", "s3://other refused ListObjectsV2 with 404 NoSuchBucket: The specified bucket does"),
        ({}, "s3://bucket", "s3://bucket has no whole backup."),
        ({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}, "s3://bucket", "cannot be reached at .*refused"),
    ],
)
def test_errors_of_the_store_are_shown(
    s3: FakeS3, tmp_path: Path, changes: dict[str, str], named: str, reason: str
) -> None:
    with (
        pytest.raises(DiscueError, match=reason),
        chosen(named, None, tmp_path, {**s3.environ, **changes}),
    ):
        pass


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (None, "127.0.0.1 does not speak TLS at this port: the URL needs http:// or another port."),
        (server_context("127.0.0.1"), "the issuer of the certificate of 127.0.0.1 is unknown."),
    ],
    ids=["no TLS", "issuer"],
)
def test_failure_of_tls_is_explained_in_words(
    s3: FakeS3, tmp_path: Path, tls: ssl.SSLContext | None, reason: str
) -> None:
    with local_server(tls=tls) as store:
        environ = {**s3.environ, "AWS_ENDPOINT_URL": store.url.replace("http:", "https:")}
        with pytest.raises(DiscueError) as caught, chosen("s3://bucket", None, tmp_path, environ):
            pass

    assert str(caught.value).endswith(f": {reason}")


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_authority_of_the_variables_or_of_the_system_is_trusted(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The server refuses the method: it has read the request."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(authority_file(tmp_path)))
    with local_server(tls=server_context("127.0.0.1")) as store:
        environ = {**os.environ, **s3.environ, "AWS_ENDPOINT_URL": store.url.replace("http:", "https:")}
        with (
            pytest.raises(DiscueError, match="refused ListObjectsV2 with 501"),
            chosen("s3://bucket", None, tmp_path, environ),
        ):
            pass


def test_object_that_is_too_large_for_one_request_is_refused(
    s3: FakeS3, plan: BackupPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_MAX_OBJECT_BYTES", 1_000)
    with pytest.raises(DiscueError, match=r"The backup has .* bytes, and s3://.* takes up to 1,000 at once\."):
        made(plan, environ=s3.environ)

    assert s3.objects == {}


def test_commands_back_up_to_a_bucket_and_restore_from_it(s3: FakeS3, tmp_path: Path) -> None:
    run(tmp_path, "init")
    destination = "s3://bucket/backups"
    backup = run(tmp_path, "backup", destination, "--keep", "7d", **s3.environ)
    drill = run(tmp_path, "check", "--restore", destination, **s3.environ)
    restored = run(tmp_path, "restore", destination, "--to", "new.db", **s3.environ)

    assert backup.stdout.startswith("discue.db was backed up to s3://bucket/backups/discue-")
    assert drill.stdout.endswith("No problems.\n")
    assert restored.stdout.startswith("s3://bucket/backups/discue-")
    assert (tmp_path / "new.db").exists()
    assert list(tmp_path.glob(".discue*")) == []


def test_missing_extra_is_an_error_with_a_remedy(s3: FakeS3, plan: BackupPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "_LIBRARY", "a_library_that_is_not_installed")
    with pytest.raises(SettingsInvalid, match=r"s3://.* needs the packages of the extra s3, .*-r requirements/s3\.txt"):
        made(plan, environ=s3.environ)


def test_endpoint_that_is_not_a_url_is_an_error(s3: FakeS3, plan: BackupPlan) -> None:
    with pytest.raises(SettingsInvalid, match=r"s3://.* cannot be used: Invalid endpoint: minio:9000"):
        made(plan, environ={**s3.environ, "AWS_ENDPOINT_URL": "minio:9000"})


def test_endpoint_is_that_of_the_region_by_default() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "eu-west-1"}
    found = bucket.Bucket("s3://bucket", environ)

    assert found._endpoint.geturl() == "https://s3.eu-west-1.amazonaws.com"

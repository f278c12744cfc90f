"""The portal on PostgreSQL: what the statements of a customer find there."""

from pathlib import Path

import pytest

from tests.dashboard.portal.conftest import Tenants, settle_in
from tests.dashboard.portal.test_portal import pages_of
from tests.support.dashboard_shop import BEHAVIOURS, ShopSender
from tests.support.dashboards import dashboard_service
from tests.support.portals import new_session, opened, opened_at
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database


def test_customer_sees_only_their_own_on_postgresql(
    tmp_path: Path, postgres_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShopSender, "behaviours", BEHAVIOURS)
    with (
        new_database(postgres_cluster) as database,
        dashboard_service(tmp_path, ShopSender, database=database) as service,
    ):
        tenants: Tenants = settle_in(service)
        url = new_session(service, "acme", tenants.queue)["url"]
        acme, initech = opened_at(service, url), opened(service, "initech", tenants.queue)
        for name, path in pages_of(tenants, "acme").items():
            assert acme.get(path).status_code == 200, name
        for name, path in pages_of(tenants, "globex").items():
            if "/listeners/" in path:
                assert acme.get(path).status_code == 404, name
        listed = acme.get("").text
        message = acme.get(f"/queues/{tenants.queue}/messages/{tenants.message}").text
        for page in (listed, message):
            assert "/acme" in page
            assert not any(other in page for other in ("globex", "internal", "initech", tenants.globex))
        messages = f"/queues/{tenants.queue}/messages"
        assert initech.get(f"{messages}/{tenants.narrow_message}").status_code == 200
        assert initech.get(f"{messages}/{tenants.message}").status_code == 404
        assert acme.get(url.removeprefix(f"{service.url}/portal")).status_code == 403
        assert service.log.errors == []

"""The portal on PostgreSQL: what the statements of a customer find there."""

from pathlib import Path

import pytest

from tests.dashboard.portal.conftest import settle_in
from tests.dashboard.portal.test_customers import check_nothing_of_others_is_reached
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
        tenants = settle_in(service)
        url = new_session(service, "acme")["url"]
        acme, initech = opened_at(service, url), opened(service, "initech", tenants.queue)
        for name, path in pages_of(tenants.own).items():
            assert acme.get(path).status_code == 200, name
        assert initech.get(tenants.narrow.message_path).status_code == 200
        assert initech.get(tenants.acme.message_path).status_code == 404
        assert acme.get(url.removeprefix(f"{service.url}/portal")).status_code == 403
        check_nothing_of_others_is_reached(service, tenants)
        assert service.log.errors == []

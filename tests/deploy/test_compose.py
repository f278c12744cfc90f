"""The compose files: what they give to the service is valid to the service, and what they name exists."""

import re
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from discue.config.settings import Settings
from discue.config.sources import load
from tests.cli.commands import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
FILES = ("compose.yaml", "compose.cluster.yaml")
GIVEN = {
    "POSTGRES_PASSWORD": "p" * 20,
    "DISCUE_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "DISCUE_METRICS_KEY": "m" * 20,
    "GRAFANA_PASSWORD": "g" * 20,
}
WORKERS = {"compose.yaml": ("discue",), "compose.cluster.yaml": ("worker-1", "worker-2")}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def composed(name: str) -> dict[str, Any]:
    """Return the file with the variables of `.env` replaced, as compose does."""
    text = VARIABLE.sub(lambda found: GIVEN.get(found[1], found[3]), (DEPLOY / name).read_text())
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def settings_of(service: dict[str, Any]) -> Settings:
    from_image = {"DISCUE_HOST": "0.0.0.0", "DISCUE_DATABASE": "sqlite:////data/discue.db", "DISCUE_LOG_FORMAT": "json"}
    return load({}, from_image | service["environment"], Path.read_bytes)


@pytest.mark.parametrize("name", FILES)
def test_settings_of_compose_files_are_valid_to_the_service(name: str) -> None:
    document = composed(name)
    for worker in WORKERS[name]:
        settings = settings_of(document["services"][worker])
        # Requests in flight finish before the container is killed.
        assert int(document["services"][worker]["stop_grace_period"].removesuffix("s")) > settings.drain_timeout_seconds


@pytest.mark.parametrize("name", FILES)
def test_workers_of_compose_files_have_no_privileges(name: str) -> None:
    for worker in WORKERS[name]:
        service = composed(name)["services"][worker]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", FILES)
def test_files_volumes_networks_and_services_that_compose_files_name_exist(name: str) -> None:
    document = composed(name)
    for service in document["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            # Compose makes an empty folder of a file that is missing.
            assert (DEPLOY / source).exists() if source.startswith(".") else source in document["volumes"]
        assert set(service.get("networks", ())) <= document.get("networks", {}).keys()
        assert set(service.get("depends_on", ())) <= document["services"].keys()
        assert set(service.get("secrets", ())) <= document.get("secrets", {}).keys()


def test_single_server_is_published_on_loopback_only() -> None:
    ports = composed("compose.yaml")["services"]["discue"]["ports"]

    assert [port.split(":")[0] for port in ports] == ["127.0.0.1"]


def test_proxies_are_trusted_in_the_networks_that_compose_files_define() -> None:
    single, cluster = (composed(name) for name in FILES)

    (own,) = single["networks"]["default"]["ipam"]["config"]
    assert settings_of(single["services"]["discue"]).trusted_proxies == (ip_network(own["gateway"]),)
    (outside,) = cluster["networks"]["outside"]["ipam"]["config"]
    assert settings_of(cluster["services"]["worker-1"]).trusted_proxies == (ip_network(outside["subnet"]),)


def test_every_secret_of_the_cluster_must_be_given() -> None:
    found = VARIABLE.findall((DEPLOY / "compose.cluster.yaml").read_text())

    assert {variable for variable, operator, _ in found if operator == "?"} == GIVEN.keys()


def test_prometheus_scrapes_the_metrics_port_of_every_worker_with_its_rules() -> None:
    services = composed("compose.cluster.yaml")["services"]
    configuration = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]

    ports = {worker: settings_of(services[worker]).metrics_port for worker in WORKERS["compose.cluster.yaml"]}
    assert job["static_configs"][0]["targets"] == [f"{worker}:{port}" for worker, port in ports.items()]
    # The rules ask for it.
    assert job["job_name"] == "discue"
    mounted = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    assert [f"/etc/prometheus/{name}" for name in configuration["rule_files"]] == [
        path for path in mounted if path.endswith("rules.yml")
    ]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_accepts_the_configuration_of_prometheus() -> None:
    command = ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "compose/prometheus.yml")]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("script", ["replication.sh", "standby.sh"])
def test_scripts_of_the_cluster_parse(script: str) -> None:
    subprocess.run(["bash", "-n", DEPLOY / "compose" / script], check=True)

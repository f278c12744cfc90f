"""The Helm chart, rendered: no Kubernetes runs here. The settings in it are read by the service."""

import json
import os
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from discue import __version__
from discue.config.settings import Settings
from discue.config.sources import load
from tests.cli.commands import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "discue"
HELM = os.environ.get("HELM") or shutil.which("helm") or ""
IMAGE = ("image.repository=registry.example.com/discue",)
CLUSTER = (
    *IMAGE,
    "store=postgresql",
    "replicas=3",
    "secret=discue",
    "postgresql.url=postgresql://discue@db/discue?sslmode=verify-full",
)
MONITORED = ("metrics.enabled=true", "metrics.serviceMonitor=true", "metrics.rules=true")
SECRETS = {
    "DISCUE_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "DISCUE_METRICS_KEY": "m" * 20,
}

pytestmark = pytest.mark.skipif(not HELM, reason="helm is not installed")


def helm(*values: str, arguments: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    given = [argument for value in values for argument in ("--set", value)]
    command = [HELM, "template", "messages", str(CHART), "--kube-version", "1.31.0", *arguments, *given]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(*values: str) -> dict[str, dict[str, Any]]:
    """Return the objects by kind: the chart makes one of each."""
    result = helm(*values)
    assert result.returncode == 0, result.stderr
    objects = [each for each in yaml.safe_load_all(result.stdout) if each is not None]
    assert len({each["kind"] for each in objects}) == len(objects)
    return {each["kind"]: each for each in objects}


def refusal(*values: str, arguments: tuple[str, ...] = ()) -> str:
    result = helm(*values, arguments=arguments)
    assert result.returncode != 0, result.stdout
    return result.stderr


def settings_of(workload: dict[str, Any]) -> Settings:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}
    secrets = SECRETS if "envFrom" in container else {}
    return load({}, {"DISCUE_HOST": "0.0.0.0", **given, **secrets}, Path.read_bytes)


def test_sqlite_is_one_server_with_a_volume_of_its_own() -> None:
    objects = rendered(*IMAGE, "settings.public_url=https://discue.example.com", "settings.drain_timeout_seconds=30")
    server = objects["StatefulSet"]

    assert set(objects) == {"StatefulSet", "Service"}
    assert server["spec"]["replicas"] == 1
    (claim,) = server["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    settings = settings_of(server)
    assert settings.database == "sqlite:////data/discue.db"
    assert settings.public_url == "https://discue.example.com"
    assert server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 70


@pytest.mark.parametrize("values", [("replicas=2",), ("autoscaling.enabled=true",)])
def test_second_server_on_sqlite_is_refused_by_the_schema_and_by_the_templates(values: tuple[str, ...]) -> None:
    assert "values don't meet the specifications of the schema" in refusal(*IMAGE, *values)

    without_schema = refusal(*IMAGE, *values, arguments=("--skip-schema-validation",))
    assert "SQLite takes exactly one server" in without_schema


def test_postgresql_is_a_deployment_that_is_spread_monitored_and_scaled_by_backlog_age() -> None:
    objects = rendered(*CLUSTER, *MONITORED, "autoscaling.enabled=true")
    workers = objects["Deployment"]

    assert set(objects) == {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "ServiceMonitor",
        "PrometheusRule",
    }
    assert "replicas" not in workers["spec"]
    settings = settings_of(workers)
    assert settings.database == "postgresql://discue@db/discue?sslmode=verify-full"
    assert settings.metrics_port == 9464
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"] == {
        "name": "discue_backlog_age_seconds",
        "selector": {"matchLabels": {"state": "active", "mode": "push"}},
    }
    assert metric["pods"]["target"]["averageValue"] == "30"
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    rules = yaml.safe_load((REPOSITORY / "deploy/prometheus/rules.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == rules


def test_objects_select_the_pods_and_ports_of_the_workers() -> None:
    objects = rendered(*CLUSTER, *MONITORED, "ingress.enabled=true", "ingress.host=discue.example.com")
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    service = objects["Service"]

    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert {endpoint["port"] for endpoint in objects["ServiceMonitor"]["spec"]["endpoints"]} <= ports
    (rule,) = objects["Ingress"]["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "messages", "port": {"name": "http"}}
    assert objects["Deployment"]["spec"]["replicas"] == 3


INGRESS = (*IMAGE, "ingress.enabled=true", "ingress.host=discue.example.com")


@pytest.mark.parametrize(
    ("values", "trusted"),
    [
        (IMAGE, ()),
        (INGRESS, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
        ((*INGRESS, "ingress.proxies=10.3.0.0/16"), ("10.3.0.0/16",)),
        ((*INGRESS, "settings.trusted_proxies=10.4.0.0/16"), ("10.4.0.0/16",)),
        # Strangers reach these from private addresses, past the ingress.
        ((*INGRESS, "service.type=LoadBalancer"), ()),
        ((*INGRESS, "service.type=NodePort"), ()),
    ],
)
def test_ingress_is_trusted_only_if_strangers_cannot_bypass_it(
    values: tuple[str, ...], trusted: tuple[str, ...]
) -> None:
    settings = settings_of(rendered(*values)["StatefulSet"])

    assert settings.trusted_proxies == tuple(map(ip_network, trusted))


@pytest.mark.parametrize("values", [IMAGE, CLUSTER])
def test_pods_have_no_privileges(values: tuple[str, ...]) -> None:
    objects = rendered(*values)
    pod = objects.get("StatefulSet", objects.get("Deployment", {}))["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10_001)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ((), "repository"),
        ((*IMAGE, "store=postgresql"), "secret"),
        ((*IMAGE, "store=mysql"), "store"),
        ((*IMAGE, "replica=1"), "replica"),
        ((*IMAGE, "settings.encryption_key=x"), "settings"),
        ((*CLUSTER, "postgresql.url=postgresql://discue:secret@db/discue"), "url"),
        ((*CLUSTER, "ingress.enabled=true"), "host"),
    ],
)
def test_values_that_cannot_work_are_refused_by_the_schema(values: tuple[str, ...], part: str) -> None:
    error = refusal(*values)

    assert "values don't meet the specifications of the schema" in error
    assert part in error


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ((*IMAGE, "metrics.enabled=true"), "metrics need a secret with the key DISCUE_METRICS_KEY"),
        ((*CLUSTER, "autoscaling.enabled=true"), "serviceMonitor, rules and autoscaling need metrics.enabled"),
    ],
)
def test_parts_that_need_metrics_say_so(values: tuple[str, ...], error: str) -> None:
    assert error in refusal(*values)


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    linted = subprocess.run(
        [HELM, "lint", "--strict", str(CHART), "--set", IMAGE[0], "--kube-version", "1.31.0"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert linted.returncode == 0, linted.stdout


def test_version_of_the_chart_is_that_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__
    assert json.loads((CHART / "values.schema.json").read_text())["then"]["properties"]["replicas"] == {"const": 1}

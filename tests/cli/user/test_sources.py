"""`sources`, and requests of providers with `trigger --source`, on a real service."""

import json
import re

import pytest

from tests.cli.user.service import Service

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _source(service: Service, provider: str, *options: str) -> str:
    """Create a source and its queue, which have the name of the provider."""
    service.succeed("queues", "set", provider)
    service.succeed("sources", "set", provider, "--provider", provider, "--queue", provider, *options)
    return provider


def test_source_is_set_shown_and_deleted(service: Service) -> None:
    (service.folder / "secret.txt").write_text(f"{SECRET}\n")
    name = _source(service, "github", "--secret", "@secret.txt")
    made = service.json("sources", "get", name)["source"]
    shown = service.succeed("sources", "get", name)
    assert re.search(rf"^URL +http://.*/in/{made['id']}$", shown, re.MULTILINE)
    assert SECRET not in shown
    assert re.search(rf"^github +{made['id']} +github +\w{{21}} +0$", service.succeed("sources", "list"), re.MULTILINE)
    changed = service.json("sources", "set", name, "--provider", "hmac", "--header", "x-signature")["source"]
    assert (changed["provider"], changed["header"], changed["algorithm"]) == ("hmac", "x-signature", "sha256")
    service.succeed("sources", "delete", name)
    assert service.run("sources", "get", name).returncode == 1


@pytest.mark.parametrize("provider", ["stripe", "github", "shopify", "standard-webhooks", "hmac"])
def test_trigger_sends_what_the_provider_would(service: Service, provider: str) -> None:
    options = ("--header", "x-signature", "--timestamp-header", "x-time") if provider == "hmac" else ()
    name = _source(service, provider, "--secret", SECRET, *options)
    service.succeed("event-types", "set", "invoice.paid", "--example", '{"total": 17}')
    send = ("trigger", name, "--source", "--type", "invoice.paid")
    message = service.succeed(*send, "--secret", SECRET).strip()
    stored = service.json("messages", "get", name, message)["message"]
    assert stored["data"]["total"] == 17
    assert stored["type"] == "invoice.paid"
    forged = service.run(*send, "--secret", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
    assert (forged.returncode, "The source refused the request: " in forged.stderr) == (1, True)
    assert len(service.json("messages", "list", name)["messages"]) == 1


def test_trigger_without_a_usable_secret_is_wrong_usage(service: Service) -> None:
    name = _source(service, "standard-webhooks", "--secret", SECRET)
    send = ("trigger", name, "--source", "--type", "invoice.paid")
    service.succeed("event-types", "set", "invoice.paid", "--example", json.dumps({"total": 17}))
    without = service.run(*send)
    assert (without.returncode, "--source needs --secret once" in without.stderr) == (2, True)
    wrong = service.run(*send, "--secret", "secret!")
    assert (wrong.returncode, "--secret is not a valid secret for Standard Webhooks" in wrong.stderr) == (2, True)


def test_trigger_without_an_example_says_how_to_add_one(service: Service) -> None:
    service.succeed("queues", "set", "unused")
    service.succeed("sources", "set", "unused", "--provider", "shopify", "--queue", "unused", "--secret", SECRET)
    send = ("trigger", "unused", "--source", "--secret", SECRET)
    named, unnamed = service.run(*send, "--type", "orders/paid"), service.run(*send)
    added = "Add an example with `discue event-types set"
    assert f"{added} orders/paid --example JSON`." in named.stderr
    assert f"{added} TYPE --example JSON`, and name it with --type TYPE." in unnamed.stderr

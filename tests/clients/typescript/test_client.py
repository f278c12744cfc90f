"""The tests of the TypeScript client, which run in node: by a real service, by servers that fail, and by requests with
wrong signatures that all clients share.
"""

import asyncio
import json
import re
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.clients.python.signed import NOW, PUBLIC_KEY, SECRET, headers_of, v1, v1a
from tests.clients.typescript.conftest import Node
from tests.clients.vectors import BODY, MALFORMED, OTHER_SECRET, UNMATCHED, UNUSABLE_SECRETS
from tests.support.authority import authority_file, server_context
from tests.support.scripted_server import HANG, ScriptedServer
from tests.support.self_signed import self_signed_context
from tools.typescript_client import PACKAGE

# One process builds the package.
pytestmark = pytest.mark.xdist_group("typescript")

SIGNED = headers_of(BODY)


def vectors() -> dict[str, Any]:
    rejected = {name: (SIGNED | changed, "malformed") for name, changed in MALFORMED.items()}
    rejected |= {name: (headers_of(BODY, signature), "no_match") for name, signature in UNMATCHED.items()}
    rejected |= {f"{name} empty": (SIGNED | {name: ""}, "missing") for name in SIGNED if name.startswith("webhook-")}
    rejected["no headers"] = ({}, "missing")
    rejected["unknown version"] = (headers_of(BODY, "v2,AAAA", v1(BODY).replace("v1", "V1")), "unknown_version")
    rejected["expired"] = (headers_of(BODY, timestamp=NOW - 301), "expired")
    rejected["early"] = (headers_of(BODY, timestamp=NOW + 301), "early")
    accepted = {
        "v1": ([SECRET], SIGNED),
        "v1a": ([PUBLIC_KEY], headers_of(BODY, v1a(BODY))),
        "both kinds": ([SECRET], headers_of(BODY, v1a(BODY), v1(BODY))),
        "old secret during a rotation": ([OTHER_SECRET, SECRET], headers_of(BODY, v1(BODY, b"y" * 24), v1(BODY))),
        "public key and a secret": ([OTHER_SECRET, PUBLIC_KEY], headers_of(BODY, v1(BODY, b"y" * 24), v1a(BODY))),
        "unknown versions are skipped": ([SECRET], headers_of(BODY, "v2,a,b", "v1x,!", v1(BODY))),
        "upper case": ([SECRET], {name.upper(): value for name, value in SIGNED.items()}),
        "secret without prefix": ([SECRET.removeprefix("whsec_")], SIGNED),
        "secret without padding": ([SECRET.rstrip("=")], SIGNED),
        "secret with spaces": ([f" {SECRET}\n"], SIGNED),
    }
    return {
        "body": BODY.decode(),
        "now": NOW,
        "secret": SECRET,
        "public_key": PUBLIC_KEY,
        "other_secret": OTHER_SECRET,
        "headers": SIGNED,
        "old": headers_of(BODY, timestamp=1_700_000_000),
        "accepted": {name: {"secrets": secrets, "headers": headers} for name, (secrets, headers) in accepted.items()},
        "rejected": {name: {"headers": headers, "reason": reason} for name, (headers, reason) in rejected.items()},
        "unusable": UNUSABLE_SECRETS,
    }


def passed(output: str) -> int:
    """Return how many tests passed, according to the report of node."""
    found = re.search(r"^ℹ pass (\d+)$", output, re.MULTILINE)
    assert found is not None, output
    return int(found[1])


def report(node: Node, name: str, **variables: str) -> int:
    return passed(node.run("--test", "--test-reporter", "spec", f"tests/{name}.test.mjs", **variables))


def test_client_uses_every_part_of_a_real_service(with_service: Node) -> None:
    written = (PACKAGE / "tests" / "service.test.mjs").read_text(encoding="utf-8").count("\ntest(")
    assert report(with_service, "service") == written


def test_client_survives_servers_that_fail(node: Node) -> None:
    assert report(node, "faults") > 40


_PUBLISH = """
import { Discue } from "@discue/client";
const client = new Discue({ url: process.argv[1], apiKey: "key" });
await client.publish("orders", 1).catch((error) => console.log(`${error}`));
"""


_YESTERDAY = datetime.now(UTC) - timedelta(days=1)
_REMEDY = r"\. Set NODE_EXTRA_CA_CERTS to a file with the issuers to trust"


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        # Newer versions of Node.js add advice.
        (server_context("127.0.0.1", is_trusted=False), f"unable to verify the first certificate.*{_REMEDY}"),
        (self_signed_context(), f"self-signed certificate.*{_REMEDY}"),
        (server_context("127.0.0.1", not_after=_YESTERDAY), "certificate has expired"),
        (server_context("a.example"), "Hostname/IP does not match certificate's altnames: IP: 127.0.0.1 is not in .*"),
        (None, "it does not speak TLS at this port: use http:// or another port"),
    ],
    ids=["issuer", "self-signed", "expired", "host", "no TLS"],
)
async def test_failure_of_tls_is_explained_and_tried_once(
    node: Node, tls: ssl.SSLContext | None, reason: str, tmp_path: Path
) -> None:
    # Also a test of the remedy: the issuer in the file is trusted.
    trusted = str(authority_file(tmp_path))
    async with ScriptedServer([[b"HTTP/1.1 400 Bad Request\r\n\r\n", HANG]], tls=tls) as server:
        url = f"https://127.0.0.1:{server.port}"
        arguments = ("--input-type=module", "-e", _PUBLISH, url)
        shown = await asyncio.to_thread(partial(node.run, *arguments, NODE_EXTRA_CA_CERTS=trusted))

    assert re.fullmatch(rf"ConnectionFailed: POST /queues/orders/messages: no response from {url}: {reason}\.\n", shown)


def test_requests_with_wrong_signatures_are_rejected_for_the_same_reasons_as_in_python(
    node: Node, tmp_path: Path
) -> None:
    shared = vectors()
    (tmp_path / "vectors.json").write_text(json.dumps(shared), encoding="utf-8")

    ran = report(node, "webhook", VECTORS=str(tmp_path / "vectors.json"))

    assert ran > len(shared["accepted"]) + len(shared["rejected"]) + len(shared["unusable"])


def test_package_has_exact_development_versions_and_no_dependencies() -> None:
    package = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))

    assert "dependencies" not in package
    assert [
        version for version in package["devDependencies"].values() if not re.fullmatch(r"\d+\.\d+\.\d+", version)
    ] == []
    assert f'"{package["version"]}"' in (PACKAGE / "src" / "version.ts").read_text(encoding="utf-8")

"""The examples of docs/typescript.md, run in node against a service."""

import json
import time
from pathlib import Path

import pytest

from tests.clients.python.signed import MESSAGE_ID, headers_of
from tests.clients.typescript.conftest import Node
from tests.clients.typescript.page import examples
from tests.support.served_api import Cast

pytestmark = pytest.mark.xdist_group("typescript")

FIRST, CUSTOMER, WORKER, SERVER, LIST, RETRIES, ERRORS = range(7)
BODY = b'{"order": 17}'

_STRIP = """
const { readFileSync, writeFileSync } = require("node:fs");
const { ModuleKind, ScriptTarget, transpileModule } = require("typescript");
const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 };
for (const [path, text] of JSON.parse(readFileSync(process.argv[1]))) {
  writeFileSync(path, transpileModule(text, { compilerOptions }).outputText);
}
"""


@pytest.fixture(scope="module")
def page(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with each example as a module, `0.mjs` and so on, which has the package installed."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "node_modules" / "@discue").mkdir(parents=True)
    (folder / "node_modules" / "@discue" / "client").symlink_to(built)
    # Any free port instead: others may use that of the page.
    found = [text.replace("listen(8001)", "listen(0)") for text in examples()]
    texts = [(str(folder / f"{number}.mjs"), text) for number, text in enumerate(found)]
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    Node({}).run("-e", _STRIP, str(folder / "texts.json"))
    return folder


def test_first_example_publishes_and_prints_the_id(page: Path, with_service: Node, cast: Cast) -> None:
    printed = with_service.run(str(page / f"{FIRST}.mjs")).strip()

    stored = cast.alice.get(f"/queues/orders/messages/{printed}").json()["message"]
    assert (stored["key"], stored["data"]) == ("customer-9", {"order": 17})


def test_customer_example_publishes_to_the_queue_of_the_customer(page: Path, with_service: Node, cast: Cast) -> None:
    assert with_service.run(str(page / f"{CUSTOMER}.mjs")).strip() == "customers/acme"

    assert cast.alice.get("/queues/customers%2Facme").json()["queue"]["customer"] == "acme"
    assert len(cast.alice.get("/queues/customers%2Facme/messages").json()["messages"]) == 1


def test_examples_for_lists_retries_and_errors_run(page: Path, with_service: Node, cast: Cast) -> None:
    cast.queue(alias="orders")

    assert with_service.run(str(page / f"{LIST}.mjs")) == ""
    assert with_service.run(str(page / f"{RETRIES}.mjs")) == ""
    printed = with_service.run(str(page / f"{ERRORS}.mjs"))
    assert "[ '/alias' ]" in printed
    assert len(cast.alice.get("/queues/orders/messages").json()["messages"]) == 1


_CALLS = {
    WORKER: """
const { default: worker } = await import(process.argv[1]);
const answer = (body, headers) =>
  worker.fetch(new Request("http://a/", { method: "POST", body, headers }), process.env);
""",
    SERVER: """
import { once } from "node:events";
const { server } = await import(process.argv[1]);
await once(server, "listening");
const url = `http://127.0.0.1:${server.address().port}/`;
const answer = (body, headers) => fetch(url, { method: "POST", body, headers });
""",
}


@pytest.mark.parametrize("example", [WORKER, SERVER])
def test_webhook_example_accepts_genuine_requests_only(page: Path, with_service: Node, example: int) -> None:
    headers = json.dumps(headers_of(BODY, timestamp=int(time.time())))
    calls = f"""{_CALLS[example]}
for (const body of ['{BODY.decode()}', "{{}}"]) {{
  const response = await answer(body, {headers});
  console.log(response.status, await response.text());
}}
process.exit();
"""
    shown = with_service.run("--input-type=module", "-e", calls, str(page / f"{example}.mjs"))

    lines = shown.splitlines()
    assert lines[0].startswith(f"{MESSAGE_ID} ")
    assert "17" in lines[0]
    assert lines[1] == "204 "
    assert lines[2].startswith("401 No signature matches")

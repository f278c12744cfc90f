"""The TypeScript client in runtimes other than Node.js, which `make clients` installs."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.python.signed import SECRET, headers_of
from tests.support.served_api import Cast

pytestmark = pytest.mark.xdist_group("typescript")

_SECONDS = 60
_BODY = b'{"order":17}'

_PROGRAM = """
import { Discue, NotFound, verifyWebhook } from "@discue/client";

const client = new Discue();
await client.queues.update("orders", {});
await client.publish("orders", { order: 17 }, { key: "customer-9" });
for await (const { key } of client.messages.list("orders")) console.log(key);
await client.publish("nowhere", 1).catch((error) => console.log(error instanceof NotFound));
const event = await verifyWebhook(SECRET, BODY, HEADERS);
console.log(event.data.order);
await verifyWebhook(SECRET, "{}", HEADERS).catch((error) => console.log(error.reason));
"""


@pytest.mark.parametrize("runtime", [("bun",), ("deno", "run", "-A")], ids=lambda runtime: runtime[0])
def test_client_publishes_lists_and_verifies(built: Path, cast: Cast, tmp_path: Path, runtime: tuple[str, ...]) -> None:
    if shutil.which(runtime[0]) is None:
        pytest.skip(f"{runtime[0]} is not installed")
    (tmp_path / "node_modules" / "@discue").mkdir(parents=True)
    (tmp_path / "node_modules" / "@discue" / "client").symlink_to(built)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    program = _PROGRAM.replace("SECRET", json.dumps(SECRET)).replace("BODY", json.dumps(_BODY.decode()))
    headers = headers_of(_BODY, timestamp=int(time.time()))
    (tmp_path / "program.mjs").write_text(program.replace("HEADERS", json.dumps(headers)))
    variables = {"DISCUE_URL": cast.service.url, "DISCUE_API_KEY": cast.alice.headers["x-api-key"], "NO_PROXY": "*"}

    ended = subprocess.run(
        [*runtime, "program.mjs"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["customer-9", "true", "17", "no_match"]

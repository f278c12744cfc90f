// Verification of webhooks. `VECTORS` names a file of signed requests, which the tests of all clients share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { verifyWebhook } from "@discue/client";

const { body, now, secret, public_key, other_secret, headers, old, accepted, rejected, unusable } = JSON.parse(
  readFileSync(process.env.VECTORS, "utf8"),
);
const bytes = new TextEncoder().encode(body);

function verified(secrets, given = headers, options = {}) {
  return verifyWebhook(secrets, options.body ?? bytes, given, { now: () => now * 1_000, ...options });
}

test("event has the id, time, data and body of a signed request", async () => {
  const event = await verified(secret, { ...headers, "discue-attempt": "3" });

  assert.deepEqual([event.id, event.data, event.attempt, event.isTest], [headers["webhook-id"], { order: 17 }, 3, false]);
  assert.equal(event.timestamp.getTime(), now * 1_000);
  assert.deepEqual(event.body, bytes);
});

for (const [name, { secrets, headers: given }] of Object.entries(accepted)) {
  test(`accepted: ${name}`, async () => {
    assert.deepEqual((await verified(secrets, given)).data, { order: 17 });
  });
}

for (const [name, { headers: given, reason }] of Object.entries(rejected)) {
  test(`rejected: ${name}`, async () => {
    await assert.rejects(verified([secret, public_key], given), (error) => {
      assert.deepEqual([error.name, error.reason, error.status], ["SignatureInvalid", reason, 401]);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  });
}

for (const [given, detail] of unusable) {
  test(`unusable secret: ${detail} ${given.length}`, async () => {
    await assert.rejects(verified(given), (error) => {
      assert.equal(error.name, "ConfigurationError");
      assert.ok(error.message.includes(detail), error.message);
      assert.ok(given.length <= 6 || !error.message.includes(given.slice(6)));
      return true;
    });
  });
}

test("missing secret is named", async () => {
  for (const missing of [undefined, []]) await assert.rejects(verified(missing), /The signing secret is missing/);
});

test("headers may be those of fetch, of Node.js, or pairs", async () => {
  for (const given of [new Headers(headers), new Map(Object.entries(headers)), Object.entries(headers)]) {
    assert.equal((await verified(secret, given)).id, headers["webhook-id"]);
  }
  assert.equal((await verified(secret, { ...headers, cookie: ["a", "b"], host: undefined })).headers.get("cookie"), "a, b");
});

test("body may be bytes, a buffer or text, and nothing that was parsed", async () => {
  for (const given of [Buffer.from(body), bytes.slice().buffer, body]) await verified(secret, headers, { body: given });
  await assert.rejects(verified(secret, headers, { body: { order: 17 } }), /must be the raw body of the request, before any parsing/);
});

test("body above the limit is rejected", async () => {
  await verified(secret, headers, { maxBytes: bytes.length });
  await assert.rejects(verified(secret, headers, { maxBytes: bytes.length - 1 }), { reason: "too_large", status: 413 });
});

test("wrong clock is named", async () => {
  for (const [hours, reason, when] of [[2, "expired", "ago"], [-2, "early", "in the future"]]) {
    await assert.rejects(verified(secret, headers, { now: () => (now + hours * 3_600) * 1_000 }), {
      reason,
      message: `The request was signed 7200 s ${when}, more than 300 s. Check the clock.`,
    });
  }
});

test("tolerance includes its edges and can be changed", async () => {
  for (const seconds of [-300, 300]) await verified(secret, headers, { now: () => (now + seconds) * 1_000 });
  await assert.rejects(verified(secret, headers, { now: () => (now + 11) * 1_000, tolerance: 10 }), { reason: "expired" });
});

test("old requests are rejected by the machine's clock", async () => {
  await assert.rejects(verifyWebhook(secret, bytes, old), { reason: "expired" });
});

test("rejection tells a secret of the wrong kind from a wrong one", async () => {
  await assert.rejects(verified(secret, accepted["v1a"].headers), /need a public key/);
  await assert.rejects(verified(public_key), /need a secret/);
  await assert.rejects(verified(other_secret), /raw/);
});

test("content type decides how data is decoded", async () => {
  for (const [type, data] of [
    ["application/json", { order: 17 }],
    ["Application/Vnd.Shop+JSON; charset=utf-8", { order: 17 }],
    ["text/plain", body],
    ['text/csv; charset="latin1"', body],
    ["application/octet-stream", bytes],
    ["", bytes],
  ]) {
    assert.deepEqual((await verified(secret, { ...headers, "content-type": type })).data, data);
  }
});

test("data that its content type does not fit is an error of one line", async () => {
  for (const type of ["text/plain; charset=nothing", "text/plain; charset=utf-16be"]) {
    await assert.rejects(verified(secret, { ...headers, "content-type": type }), (error) => {
      assert.deepEqual([error.name, error.status], ["DataInvalid", 422]);
      assert.match(error.message, /^The data is not acceptable: [^\n]+$/);
      return true;
    });
  }
});

test("deduplication key tells replays from attempts", async () => {
  assert.equal((await verified(secret)).deduplicationKey, headers["webhook-id"]);
  assert.equal((await verified(secret)).type, undefined);
  assert.equal((await verified(secret, { ...headers, "discue-sequence": "17" })).sequence, 17);
  assert.equal((await verified(secret, headers)).sequence, undefined);
  assert.equal((await verified(secret, { ...headers, "discue-type": "order.paid" })).type, "order.paid");
  assert.equal((await verified(secret, { ...headers, "discue-replay": "r-1" })).deduplicationKey, `${headers["webhook-id"]}/r-1`);
});

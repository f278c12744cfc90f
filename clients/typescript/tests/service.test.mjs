// Requests to a running service, which `DISCUE_URL` and `DISCUE_API_KEY` name.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { beforeEach, test } from "node:test";

import * as discue from "@discue/client";

const client = new discue.Discue();
let queue;

beforeEach(async () => {
  queue = (await client.queues.create({ alias: `q-${crypto.randomUUID()}` })).alias;
});

async function messages(query) {
  const found = [];
  for await (const message of client.messages.list(queue, { data: "true", ...query })) found.push(message);
  return found;
}

test("publish stores the message with its data and fields", async () => {
  const sent = await client.publish(queue, { order: 17 }, { key: "customer-9", delay: 59.5, headers: { "x-shop": "1" } });

  const stored = await client.messages.get(queue, sent.id);
  assert.deepEqual([stored.id, stored.data, stored.key, stored.headers], [sent.id, { order: 17 }, "customer-9", { "x-shop": "1" }]);
  const delay = stored.deliver_at - stored.created_at;
  assert.ok(delay >= 59_500 && delay < 65_000, `whole seconds, rounded up: ${delay}`);
});

test("strings and bytes are stored as they are", async () => {
  await client.publish(queue, "grün");
  await client.publish(queue, Uint8Array.of(0xff, 0));
  await client.publish(queue, Uint8Array.of(1, 2).buffer);
  await client.publish(queue, new Uint8Array(100_000));

  const [large, buffer, bytes, text] = await messages();
  assert.equal(text.data, "grün");
  assert.deepEqual([bytes.data_base64, buffer.data_base64], ["/wA=", "AQI="]);
  assert.equal(atob(large.data_base64).length, 100_000);
});

test("calls with the same idempotency key publish once", async () => {
  const options = { idempotencyKey: crypto.randomUUID() };
  const [first, second] = [await client.publish(queue, 1, options), await client.publish(queue, 1, options)];

  assert.equal(first.id, second.id);
  assert.equal((await messages()).length, 1);
});

test("a topic is published to like a queue", async () => {
  const topic = (await client.topics.create()).id;
  await client.channels.create(topic, { queue_id: queue, pattern: "orders.*.paid" });
  const options = { type: "orders.eu.paid", headers: { "x-shop": "1" }, delay: 59.5, idempotencyKey: crypto.randomUUID() };
  const sent = await client.topics.publish(topic, { order: 17 }, options);
  const again = await client.topics.publish(topic, { order: 17 }, options);
  await client.topics.publish(topic, Uint8Array.of(0xff, 0), { type: "orders.us.paid", expires_in: 60 });
  const ignored = await client.topics.publish(topic, "text");

  const [bytes, stored] = await messages();
  assert.deepEqual([again.id, sent.queues.length, ignored.queues], [sent.id, 1, []]);
  assert.deepEqual([stored.id, stored.data, stored.type, stored.headers], [sent.id, { order: 17 }, "orders.eu.paid", { "x-shop": "1" }]);
  assert.equal(bytes.data_base64, "/wA=");
});

test("an erasure leaves messages with other keys", async () => {
  for (const key of ["customer-7", "customer-8"]) await client.publish(queue, "x", { key });

  const erasure = await client.erasures.create(queue, { key: "customer-7" });
  assert.deepEqual([erasure.state, erasure.erased, erasure.delivered], ["done", 1, []]);
  assert.deepEqual((await messages()).map((each) => each.key), ["customer-8"]);
  assert.equal((await client.erasures.get(queue, erasure.id)).key, "customer-7");
});

test("expires_in counts from now", async () => {
  const { id } = await client.publish(queue, 1, { expires_in: 60 });

  const { created_at, expires_at } = await client.messages.get(queue, id);
  assert.ok(Math.abs(expires_at - created_at - 60_000) < 5_000);
});

test("lists span pages and end at their limit", async () => {
  await client.messages.createBatch(queue, { messages: Array.from({ length: 130 }, (_, n) => ({ data: n })) });

  assert.deepEqual((await messages()).map((each) => each.data), Array.from({ length: 130 }, (_, n) => 129 - n));
  assert.equal((await messages({ limit: 101 })).length, 101);
  assert.equal((await client.messages.list(queue, { data: "true" }).first()).data, 129);
  assert.equal((await messages({ state: "missed" })).length, 0);
  assert.equal(await client.messages.list(queue, { limit: 0 }).first(), undefined);
  const sizes = [];
  for await (const page of client.messages.list(queue).pages()) sizes.push(page.length);
  assert.deepEqual(sizes, [100, 30]);
});

test("list without a queue is that of all queues", async () => {
  await client.publish(queue, "everywhere");

  assert.equal((await client.messages.list(null, { data: "true" }).first()).data, "everywhere");
});

test("aliases may contain slashes", async () => {
  const alias = `shop/${crypto.randomUUID()}`;
  await client.queues.create({ alias });

  assert.equal((await client.queues.get(alias)).alias, alias);
  await client.queues.delete(alias);
});

test("pulled messages are acknowledged", async () => {
  await client.listeners.create(queue, { alias: "billing", mode: "pull" });
  const { id } = await client.publish(queue, { order: 17 });

  const [pulled] = await client.listeners.pull(queue, "billing", { max: 10, wait: 5 });
  await client.listeners.settle(queue, "billing", { acknowledge: [pulled.receipt] });

  assert.deepEqual([pulled.id, pulled.data], [id, '{"order":17}']);
  assert.deepEqual(await client.listeners.pull(queue, "billing", { wait: 0 }), []);
});

test("error of the service has its class, code, pointers and request id, and one line", async () => {
  const error = await client.queues.create({ alias: "a b" }).catch((caught) => caught);

  assert.ok(error instanceof discue.BadRequest || error instanceof discue.ValidationFailed, String(error));
  assert.deepEqual(error.pointers, ["/alias"]);
  assert.ok(error.code && error.requestId);
  assert.match(String(error), /^\w+: POST \/queues: 4\d\d \w+: [^\n]+ \(\/alias: [^\n]+\) \[request [\w-]+\]$/);
});

test("missing resource is NotFound", async () => {
  const error = await client.queues.get("nothing").catch((caught) => caught);

  assert.ok(error instanceof discue.NotFound && error instanceof discue.APIError && error instanceof discue.DiscueError);
  assert.deepEqual([error.name, error.status], ["NotFound", 404]);
});

test("revoked key is named in the error", async () => {
  const { id, key } = await client.apiKeys.create();
  const other = new discue.Discue({ apiKey: key });
  await other.publish(queue, 1);
  await client.apiKeys.delete(id);

  const error = await other.publish(queue, 2).catch((caught) => caught);
  assert.ok(error instanceof discue.Unauthorized);
  assert.match(error.message, new RegExp(`^POST /queues/${queue}/messages: 401 \\w+: .*API key`));
});

test("request reaches what has no method", async () => {
  const found = await client.request("GET", "/queues", { query: { per_page: 1 } });

  assert.equal(found.queues.length, 1);
});

test("signature of the service is verified", async () => {
  const received = [];
  const server = createServer(async (request, response) => {
    received.push([Buffer.concat(await request.toArray()), request.headers]);
    response.writeHead(204).end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  await client.listeners.create(queue, { alias: "billing", notify_url: url, liveness_url: url });
  const { secret } = await client.secrets.create(queue, "billing", {});
  const key = await client.secrets.create(queue, "billing", { type: "ed25519" });

  await client.listeners.test(queue, "billing", { data: { order: 17 } });
  server.close();

  const [body, headers] = received[0];
  for (const each of [secret, key.public_key]) {
    const event = await discue.verifyWebhook(each, body, headers);
    assert.deepEqual([event.data, event.isTest, event.attempt], [{ order: 17 }, true, 1]);
  }
  await assert.rejects(discue.verifyWebhook(secret, "{}", headers), { reason: "no_match" });
});

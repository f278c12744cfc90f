// Requests to servers that fail: what a person reads, and what was sent.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";

import * as discue from "@discue/client";

const PUBLISH = "POST /queues/orders/messages";
const STORED = response(200, '{"message":{"id":"m"}}');

function response(status, body, ...headers) {
  const lines = [`HTTP/1.1 ${status} X`, `content-length: ${Buffer.byteLength(body)}`, "connection: close", ...headers];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

function problem(status, fields = {}, ...headers) {
  return response(status, JSON.stringify({ status, title: "T", ...fields }), ...headers);
}

const AT_ONCE = "retry-after: 0";

/**
 * Start a server for a test, which sends the next answer after each request; the last one again and again. An answer of
 * null cuts the connection off.
 */
async function serving(t, answers, options = {}) {
  const requests = [];
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      text += chunk;
      const [head, body = ""] = text.split("\r\n\r\n");
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (!text.includes("\r\n\r\n") || body.length < length) return;
      text = "";
      const headers = Object.fromEntries(head.split("\r\n").slice(1).map((line) => line.split(": ")));
      requests.push({ line: head.split("\r\n")[0], headers, body });
      const answer = answers[Math.min(requests.length, answers.length) - 1];
      if (answer === null) socket.resetAndDestroy();
      else socket.write(answer);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await once(server.close(), "close");
  };
  t.after(close);
  const url = `http://127.0.0.1:${server.address().port}`;
  const client = new discue.Discue({ url: `${url}/`, apiKey: "key", deadlineMs: 20_000, ...options });
  return { url, client, requests, close };
}

async function errorOf(promise) {
  const error = await promise.then(() => assert.fail("no error"), (caught) => caught);
  assert.ok(error instanceof discue.DiscueError, String(error));
  assert.ok(!error.message.includes("\n"));
  return error;
}

test("creation is sent again with the same idempotency key and body", async (t) => {
  const { client, requests } = await serving(t, [problem(503, {}, AT_ONCE), null, problem(500), "garbage\r\n\r\n", STORED]);
  const message = await client.publish("orders", { n: 1 });

  assert.equal(message.id, "m");
  assert.equal(requests.length, 5);
  assert.equal(new Set(requests.map((each) => each.headers["idempotency-key"])).size, 1);
  assert.deepEqual(new Set(requests.map((each) => each.body)), new Set(['{"data":{"n":1}}']));
  assert.equal(requests[0].headers["x-api-key"], "key");
});

test("creations have different idempotency keys, and retries of a key in flight go on", async (t) => {
  const { client, requests } = await serving(t, [problem(409, { code: "request_in_flight" }, AT_ONCE), STORED]);
  await client.publish("orders", 1);
  await client.publish("orders", 1);

  const keys = requests.map((each) => each.headers["idempotency-key"]);
  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
});

for (const status of [400, 401, 402, 403, 404, 409, 410, 412, 413, 418, 422, 501, 505]) {
  test(`${status} is not sent again`, async (t) => {
    const { client, requests } = await serving(t, [problem(status, { code: "c", detail: "Wrong.\n\u001bNo." })]);
    const error = await errorOf(client.publish("orders", 1));

    assert.equal(requests.length, 1);
    assert.deepEqual([error.status, error.code], [status, "c"]);
    assert.equal(error.message, `${PUBLISH}: ${status} c: Wrong. No.`);
  });
}

for (const status of [408, 425, 429, 500, 502, 504]) {
  test(`${status} is sent again`, async (t) => {
    const { client, requests } = await serving(t, [problem(status, {}, AT_ONCE), STORED]);
    await client.publish("orders", 1);

    assert.equal(requests.length, 2);
  });
}

test("server that is away", async (t) => {
  const { client, url, close } = await serving(t, [], { attempts: 2 });
  await close();
  const error = await errorOf(client.publish("orders", 1));

  assert.ok(error instanceof discue.ConnectionFailed);
  assert.equal(error.message, `${PUBLISH}: no response from ${url} in attempt 2: connect ECONNREFUSED ${url.slice(7)}.`);
});

test("host that does not exist", async () => {
  const client = new discue.Discue({ url: "http://discue.invalid", apiKey: "key", attempts: 1 });
  const error = await errorOf(client.publish("orders", 1));

  assert.match(error.message, /no response from http:\/\/discue\.invalid: getaddrinfo \w+ discue\.invalid\.$/);
});

for (const [name, start] of [["silent", ""], ["silent after the head", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"]]) {
  test(`server that is ${name} is left after the timeout`, async (t) => {
    const { client, url } = await serving(t, [start], { timeoutMs: 100, attempts: 1 });
    const error = await errorOf(client.publish("orders", 1));

    assert.ok(error instanceof discue.TimedOut);
    assert.equal(error.message, `${PUBLISH}: no response from ${url} within 0.1 s.`);
  });
}

test("deadline covers all attempts", async (t) => {
  const { client } = await serving(t, [problem(503, {}, AT_ONCE), ""]);
  const startedAt = performance.now();
  const error = await errorOf(client.publish("orders", 1, { deadlineMs: 200 }));

  assert.match(error.message, /in attempt 2 within 0\.\d+ s\.$/);
  assert.ok(performance.now() - startedAt < 5_000, "the default timeout of an attempt is 15 s");
});

test("client gives up rather than wait beyond its deadline", async (t) => {
  const { client, requests } = await serving(t, [problem(503, {}, "retry-after: 3600")]);
  const error = await errorOf(client.publish("orders", 1));

  assert.ok(error instanceof discue.Unavailable && error instanceof discue.ServerError);
  assert.deepEqual([error.retryAfter, requests.length], [3600, 1]);
});

test("date in Retry-After counts from the clock of the service", async (t) => {
  const dates = ["date: Fri, 01 Jan 1999 00:00:00 GMT", "retry-after: Fri, 01 Jan 1999 01:00:00 GMT"];
  const { client } = await serving(t, [problem(429, {}, ...dates)]);
  const error = await errorOf(client.publish("orders", 1));

  assert.ok(error instanceof discue.RateLimited);
  assert.equal(error.retryAfter, 3600);
});

const GARBAGE = ["<html>Bad gateway</html>", '"x"', "[]", '{"status":200}', ""];
for (const body of GARBAGE) {
  test(`error with the body ${body || "of no bytes"} is not taken for one of the service`, async (t) => {
    const { client } = await serving(t, [response(400, body)]);
    const error = await errorOf(client.publish("orders", 1));

    assert.ok(error instanceof discue.UnexpectedResponse);
    assert.equal(error.message, `${PUBLISH}: 400 from something other than discue: ${body || "an empty body"}`);
  });

  test(`success with the body ${body || "of no bytes"} is an error`, async (t) => {
    const { client } = await serving(t, [response(200, body)]);
    for (const call of [() => client.publish("orders", 1), () => client.queues.list().first()]) {
      const error = await errorOf(call());
      assert.ok(error instanceof discue.UnexpectedResponse);
      assert.match(error.message, /: the response cannot be read: /);
    }
  });
}

test("fields of wrong types in a problem are ignored", async (t) => {
  const fields = { detail: 7, code: [], errors: [1, { pointer: 2 }], request_id: {} };
  const { client } = await serving(t, [problem(404, fields, "x-request-id: r-1")]);
  const error = await errorOf(client.publish("orders", 1));

  assert.deepEqual([error.code, error.pointers, error.requestId], [undefined, [""], "r-1"]);
});

test("redirects are not followed: they would get the key", async (t) => {
  const { client, requests } = await serving(t, [response(307, "", "location: /elsewhere")]);

  assert.ok((await errorOf(client.publish("orders", 1))) instanceof discue.UnexpectedResponse);
  assert.equal(requests.length, 1);
});

test("request that may have had an effect is not repeated without a key", async (t) => {
  const { client, requests } = await serving(t, [null]);
  await errorOf(client.listeners.test("orders", "billing"));

  assert.equal(requests.length, 1);
});

test("rate-limited request is repeated whatever it does", async (t) => {
  const { client, requests } = await serving(t, [problem(429, {}, AT_ONCE), problem(404)]);
  await errorOf(client.listeners.test("orders", "billing"));

  assert.equal(requests.length, 2);
});

test("deletion whose response was lost counts as done", async (t) => {
  const { client, requests } = await serving(t, [null, problem(404)]);
  await client.queues.delete("orders");

  assert.equal(requests.length, 2);
  assert.ok((await errorOf(client.queues.delete("orders"))) instanceof discue.NotFound);
});

test("signal ends a request, and a wait for the next attempt", async (t) => {
  const { client } = await serving(t, ["", problem(503, {}, "retry-after: 10")]);
  for (const _ of [1, 2]) {
    await assert.rejects(client.publish("orders", 1, { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
  }
  await assert.rejects(client.publish("orders", 1, { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("links of a page do not lead to another server", async (t) => {
  const next = { next: { href: "http://elsewhere.invalid/queues?page=2" } };
  const first = response(200, JSON.stringify({ queues: [{ id: "a" }], _links: next }));
  const { client, requests } = await serving(t, [first, response(200, '{"queues":[{"id":"b"}]}')]);
  const ids = [];
  for await (const queue of client.queues.list()) ids.push(queue.id);

  assert.deepEqual(ids, ["a", "b"]);
  assert.deepEqual(requests.map((each) => each.line), ["GET /queues?per_page=100 HTTP/1.1", "GET /queues?page=2 HTTP/1.1"]);
});

test("names and keys that lead elsewhere are refused before anything is sent", async (t) => {
  const { client, requests } = await serving(t, [STORED]);
  for (const name of ["", ".", "..", undefined]) {
    await assert.rejects(async () => client.messages.delete("orders", name), /not the id or the alias/);
  }
  for (const idempotencyKey of ["", "a b", "ä", "x".repeat(256), "a\r\nb: c"]) {
    await assert.rejects(client.publish("orders", 1, { idempotencyKey }), /idempotency key/);
  }
  assert.equal(requests.length, 0);
});

test("configuration that cannot be used is named, without its secrets", () => {
  const url = "http://127.0.0.1:3000";
  for (const [options, message] of [
    [{ apiKey: "k" }, "The URL of the service is missing: pass url, or set DISCUE_URL."],
    [{ url }, "The API key is missing: pass apiKey, or set DISCUE_API_KEY."],
    [{ url, apiKey: "a b" }, "The API key contains spaces, line breaks or non-ASCII characters."],
    ...["127.0.0.1:3000", "ftp://a", "http://", "http://u:secret@a", "http://a?b", "http://a#b", "http://a:0", "http://a:b"].map(
      (wrong) => [{ url: wrong, apiKey: "k" }, "The URL of the service must look like https://discue.example.com:3000."],
    ),
  ]) {
    assert.throws(() => new discue.Discue(options), { name: "ConfigurationError", message });
  }
});

test("client needs fetch, and nothing of Node.js, as in a worker", async (t) => {
  const { process, Buffer } = globalThis;
  t.after(() => Object.assign(globalThis, { process, Buffer }));
  Object.assign(globalThis, { process: undefined, Buffer: undefined });
  const calls = [];
  const fetch = async (url, init) => {
    calls.push([url, init.method, init.body]);
    // Not a Response: that of Node.js needs what is missing here.
    return { ok: true, text: async () => '{"message":{"id":"m"}}' };
  };

  assert.throws(() => new discue.Discue({ url: "http://a" }), /^ConfigurationError: The API key is missing/);
  await new discue.Discue({ url: "http://a/v1/", apiKey: "key", fetch }).publish("a/b", Uint8Array.of(1));

  assert.deepEqual(calls, [["http://a/v1/queues/a%2Fb/messages", "POST", '{"data_base64":"AQ=="}']]);
});

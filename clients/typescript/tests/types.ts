/** What the types allow and refuse; the compiler checks it, and nothing runs it. */

import { APIError, Discue, verifyWebhook } from "@discue/client";
import type { Message, Queue, Reason, WebhookEvent } from "@discue/client";

const client = new Discue({ url: "http://127.0.0.1:3000", apiKey: "key", timeoutMs: 5_000 });

export async function allowed(): Promise<void> {
  const queue: Queue = await client.queues.update("orders", { ordered: true, alias: null });
  const message: Message = await client.publish(queue.id, { order: 17 }, { type: "order.paid", key: "a", expires_in: 60, idempotencyKey: "k" });
  for await (const each of client.messages.list("orders", { state: "missed", limit: 5 })) console.log(each.key);
  for await (const page of client.messages.list(null).pages()) console.log(page[0]?.id);
  const pulled = await client.listeners.pull("orders", "billing", { wait: 20 }, { signal: AbortSignal.timeout(1_000) });
  const routed = await client.topics.publish("shop", { order: 17 }, { type: "orders.eu.paid", expires_in: 60, idempotencyKey: "k" });
  console.log(message.id, pulled.length, routed.queues.length);
  const event: WebhookEvent<{ order: number }> = await verifyWebhook("whsec_", new Uint8Array(), new Headers());
  console.log(event.data.order, event.type);
}

export function pointersOf(error: unknown): string[] {
  return error instanceof APIError && error.code === "validation_failed" ? error.pointers : [];
}

export function isClock(reason: Reason): boolean {
  // @ts-expect-error: no such reason
  if (reason === "too_old") return true;
  return reason === "expired" || reason === "early";
}

export async function refused(): Promise<void> {
  // @ts-expect-error: a field that the API does not have
  await client.publish("orders", 1, { priority: 5 });
  // @ts-expect-error: a type is text
  await client.publish("orders", 1, { type: 5 });
  // @ts-expect-error: a value that the API does not take
  await client.queues.create({ on_missed: "wait" });
  // @ts-expect-error: a required field is missing
  await client.schedules.create("orders", { data: 1 });
  // @ts-expect-error: an element of a list may be missing
  (await client.listeners.pull("orders", "billing"))[0].id;
  // @ts-expect-error: a body that was parsed has other bytes
  await verifyWebhook("whsec_", { order: 17 }, {});
}

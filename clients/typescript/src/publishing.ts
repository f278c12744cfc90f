/** Messages to publish. */

import { bytesToBase64 } from "./base64.js";
import type { MessageBody } from "./generated/models.js";
import type { RequestOptions } from "./requester.js";

/** Fields of a message in addition to its data, and options of the request. */
export interface PublishOptions extends Omit<MessageBody, "data" | "data_base64">, RequestOptions {
  /** Latest time of delivery, in seconds from now. */
  expires_in?: number | undefined;
}

/** Return a message in the form of the API, without the options of the request. */
export function messageOf(data: unknown, options: PublishOptions): MessageBody {
  const { signal, idempotencyKey, timeoutMs, deadlineMs, attempts, expires_in, ...fields } = options;
  const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
  const sent: MessageBody = bytes instanceof Uint8Array ? { data_base64: bytesToBase64(bytes) } : { data };
  // The API counts whole seconds, and never sends early.
  if (typeof fields.delay === "number") sent.delay = Math.ceil(fields.delay);
  if (expires_in !== undefined) sent.expires_at = Math.round(Date.now() + expires_in * 1_000);
  return { ...fields, ...sent };
}

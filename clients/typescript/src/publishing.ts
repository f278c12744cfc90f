/** Messages to publish. */

import { bytesToBase64 } from "./base64.js";
import type { MessageBody, TopicMessageBody } from "./generated/models.js";
import type { RequestOptions } from "./requester.js";

/** Fields of a message in addition to its data, and options of the request. */
export interface PublishOptions extends Omit<MessageBody, "data" | "data_base64">, RequestOptions {
  /** Latest time of delivery, in seconds from now. */
  expires_in?: number | undefined;
}

/** Fields of a message to a topic in addition to its data, and options of the request. */
export interface TopicPublishOptions extends PublishOptions, Pick<TopicMessageBody, "subject"> {}

/** Return a message as the API takes it, and the options of its request. */
export function messageOf(data: unknown, given: TopicPublishOptions): [TopicMessageBody, RequestOptions] {
  const { signal, idempotencyKey, timeoutMs, deadlineMs, attempts, expires_in, ...fields } = given;
  const message: TopicMessageBody = fields;
  if (data instanceof Uint8Array) message.data_base64 = bytesToBase64(data);
  else if (data instanceof ArrayBuffer) message.data_base64 = bytesToBase64(new Uint8Array(data));
  else message.data = data;
  // The API counts whole seconds, and never sends early.
  if (typeof fields.delay === "number") message.delay = Math.ceil(fields.delay);
  if (expires_in !== undefined) message.expires_at = Math.round(Date.now() + expires_in * 1_000);
  return [message, { signal, idempotencyKey, timeoutMs, deadlineMs, attempts }];
}

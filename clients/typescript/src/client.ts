/** The client. */

import { bytesToBase64 } from "./base64.js";
import type { ClientOptions } from "./configuration.js";
import { Resources } from "./generated/resources.js";
import type { Message, MessageBody } from "./generated/models.js";
import { Requester } from "./requester.js";
import type { RequestFields, RequestOptions } from "./requester.js";

/** Fields of a message in addition to its data, and options of the request. */
export interface PublishOptions extends Omit<MessageBody, "data" | "data_base64">, RequestOptions {
  /** Latest time of delivery, in seconds from now. */
  expires_in?: number | undefined;
}

/**
 * A client of a discue service.
 *
 * Takes the URL and the API key from `DISCUE_URL` and `DISCUE_API_KEY` unless they are given. Requests that fail are
 * sent again, unless that could repeat their effect, until `deadlineMs` have passed; each attempt has `timeoutMs`.
 */
export class Discue extends Resources {
  constructor(options: ClientOptions = {}) {
    super(new Requester(options));
  }

  /**
   * Publish a message to the queue with this alias or id, and return it once it is stored.
   *
   * `data` is a string or bytes, which are delivered as they are, or any value with a JSON form. The message is
   * published once, however often the request is sent. A call with the same `idempotencyKey` and the same fields
   * publishes nothing more.
   */
  publish(queue: string, data: unknown, options: PublishOptions = {}): Promise<Message> {
    const { signal, idempotencyKey, timeoutMs, deadlineMs, attempts, expires_in, ...fields } = options;
    const message: MessageBody = fields;
    if (data instanceof Uint8Array) message.data_base64 = bytesToBase64(data);
    else if (data instanceof ArrayBuffer) message.data_base64 = bytesToBase64(new Uint8Array(data));
    else message.data = data;
    // The API counts whole seconds, and never sends early.
    if (typeof fields.delay === "number") message.delay = Math.ceil(fields.delay);
    if (expires_in !== undefined) message.expires_at = Math.round(Date.now() + expires_in * 1_000);
    return this.messages.create(queue, message, { signal, idempotencyKey, timeoutMs, deadlineMs, attempts });
  }

  /**
   * Send a request for which this version has no method, and return what the response contains.
   *
   * `path` starts with `/` and is encoded already.
   */
  request(method: string, path: string, fields: RequestFields = {}, options: RequestOptions = {}): Promise<unknown> {
    return this.requester.request(method, path, fields, options);
  }
}

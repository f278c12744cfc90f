/** The client. */

import type { ClientOptions } from "./configuration.js";
import { Resources } from "./generated/resources.js";
import type { Message } from "./generated/models.js";
import { messageOf, type PublishOptions } from "./publishing.js";
import { Requester } from "./requester.js";
import type { RequestFields, RequestOptions } from "./requester.js";

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
    return this.messages.create(queue, messageOf(data, options), options);
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

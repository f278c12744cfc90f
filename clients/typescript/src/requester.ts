/** Sends requests, and sends them again if that helps. */

import { configurationOf, isRetried, retryAfterOf, waitMs } from "./configuration.js";
import type { ClientOptions, Fetch, RetryOptions } from "./configuration.js";
import { APIError, ConnectionFailed, DiscueError, NotFound, TimedOut, UnexpectedResponse } from "./errors.js";
import { errorOf } from "./refusal.js";
import { isObject, oneLine } from "./text.js";
import { VERSION } from "./version.js";

/** Options that every operation takes. */
export interface RequestOptions extends RetryOptions {
  /** Ends the request and its retries. */
  signal?: AbortSignal | undefined;
  /** Calls with the same key and the same fields take effect once. Default: a new key for each call. */
  idempotencyKey?: string | undefined;
}

export interface RequestFields {
  query?: object | undefined;
  body?: unknown;
  /** Whether sending the request twice has the effect of sending it once. Default: true. */
  repeatable?: boolean | undefined;
  /** How much longer than usual the service may take, in seconds. */
  extraTime?: number | undefined;
}

interface Failure {
  error: DiscueError;
  /** Whether another attempt may have another result. */
  mayHelp: boolean;
  /** Whether the request surely changed nothing. */
  hadNoEffect: boolean;
  retryAfter?: number | undefined;
}

/** The body of a successful response, or what went wrong. */
type Result = string | Failure;

interface Outgoing {
  name: string;
  url: string;
  init: RequestInit;
}

// Statuses that say that the request had no effect, so that any request may be sent again.
const UNDONE = [425, 429];
const NEVER_SENT = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT)$/;
// Failures that a retry cannot fix: a certificate that is not trusted, or a port without TLS.
const PERMANENT = /CERT|UNABLE_TO_VERIFY|ERR_TLS|WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/;
const KEY = /^[\x21-\x7e]{1,255}$/;

export class Requester {
  readonly url: string;
  readonly #apiKey: string;
  readonly #fetch: Fetch;
  readonly #defaults: RetryOptions;

  constructor(options: ClientOptions) {
    ({ url: this.url, apiKey: this.#apiKey } = configurationOf(options));
    this.#fetch = options.fetch ?? ((target, init) => globalThis.fetch(target, init));
    this.#defaults = options;
  }

  /** Send a request and return the object in the response, which has the member if one is named. */
  async object<T>(
    method: string,
    path: string,
    member: string | undefined,
    fields: RequestFields,
    options: RequestOptions,
  ): Promise<T> {
    const found = await this.request(method, path, fields, options);
    if (!isObject(found) || (member !== undefined && found[member] === undefined)) {
      const missing = isObject(found) ? `it has no member ${member}` : "it is no JSON object";
      throw new UnexpectedResponse(`${method} ${path}: the response cannot be read: ${missing}.`);
    }
    return found as T;
  }

  /** Send a request and return what the response contains, or undefined if it is empty. Throws DiscueError. */
  async request(method: string, path: string, fields: RequestFields, options: RequestOptions): Promise<unknown> {
    const agent = `discue-client-js/${VERSION}`;
    const headers = new Headers({ accept: "application/json", "user-agent": agent, "x-api-key": this.#apiKey });
    const init: RequestInit = { method, headers, redirect: "manual" };
    if (fields.body !== undefined) {
      headers.set("content-type", "application/json");
      init.body = JSON.stringify(fields.body);
    }
    if (method === "POST" || options.idempotencyKey !== undefined) {
      const key = options.idempotencyKey ?? crypto.randomUUID();
      if (!KEY.test(key)) throw new TypeError("An idempotency key has 1 to 255 visible ASCII characters.");
      headers.set("idempotency-key", key);
    }
    const target = path + queryOf(fields.query);
    const content = await this.#send({ name: `${method} ${target}`, url: this.url + target, init }, fields, options);
    if (!content) return undefined;
    try {
      return JSON.parse(content) as unknown;
    } catch (error) {
      throw new UnexpectedResponse(`${method} ${target}: the response cannot be read: ${oneLine(String(error))}`);
    }
  }

  async #send(request: Outgoing, fields: RequestFields, options: RequestOptions): Promise<string> {
    const timeoutMs = options.timeoutMs ?? this.#defaults.timeoutMs ?? 15_000;
    const attempts = options.attempts ?? this.#defaults.attempts ?? 10;
    const deadline = performance.now() + (options.deadlineMs ?? this.#defaults.deadlineMs ?? 60_000);
    let mayBeDone = false;
    for (let attempt = 1; ; attempt += 1) {
      const left = Math.max(Math.min(timeoutMs, deadline - performance.now()), 1);
      const result = await this.#attempt(request, attempt, left + (fields.extraTime ?? 0) * 1_000, options.signal);
      if (typeof result === "string") return result;
      // An earlier attempt, whose response was lost, has deleted it.
      if (mayBeDone && request.init.method === "DELETE" && result.error instanceof NotFound) return "{}";
      const pause = waitMs(attempt, result.retryAfter);
      const isLast = attempt >= attempts || performance.now() + pause >= deadline;
      if (isLast || !result.mayHelp || !((fields.repeatable ?? true) || result.hadNoEffect)) throw result.error;
      mayBeDone ||= !result.hadNoEffect;
      await sleep(pause, options.signal);
    }
  }

  async #attempt(request: Outgoing, attempt: number, timeoutMs: number, signal?: AbortSignal): Promise<Result> {
    signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    // Not `AbortSignal.any`: some versions of Node.js lose its timeouts to the garbage collector.
    const timer = setTimeout(abort, timeoutMs);
    signal?.addEventListener("abort", abort);
    try {
      const response = await this.#fetch(request.url, { ...request.init, signal: controller.signal });
      // Slow bodies count as well.
      return resultOf(response, await response.text(), request.name);
    } catch (error) {
      signal?.throwIfAborted();
      const what = `${request.name}: no response from ${this.url}${attempt > 1 ? ` in attempt ${attempt}` : ""}`;
      if (controller.signal.aborted) {
        const seconds = Number((timeoutMs / 1_000).toPrecision(3));
        return { error: new TimedOut(`${what} within ${seconds} s.`, { cause: error }), mayHelp: true, hadNoEffect: false };
      }
      const { code, reason } = causeOf(error);
      const failed = new ConnectionFailed(`${what}: ${reason}.`, { cause: error });
      return { error: failed, mayHelp: !PERMANENT.test(code), hadNoEffect: NEVER_SENT.test(code) };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }
}

function resultOf(response: Response, content: string, name: string): Result {
  if (response.ok) return content;
  const retryAfter = retryAfterOf(response.headers);
  const error = errorOf(response, content, name, retryAfter);
  const code = error instanceof APIError ? error.code : undefined;
  return { error, mayHelp: isRetried(response.status, code), hadNoEffect: UNDONE.includes(response.status), retryAfter };
}

/** Return what the first cause says: the outer errors only say that a request failed. */
function causeOf(error: unknown): { code: string; reason: string } {
  let first = error as { code?: unknown; message?: unknown; cause?: unknown };
  while (isObject(first.cause)) first = first.cause;
  const code = typeof first.code === "string" ? first.code : "";
  if (/_VERSION_NUM|_LENGTH_/.test(code)) return { code, reason: "it does not speak TLS at this port: use http:// or another port" };
  const remedy = /ISSUER|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code) ? ". Set NODE_EXTRA_CA_CERTS to a file with the issuers to trust" : "";
  return { code, reason: oneLine(String(first.message || code || error)).replace(/\.$/, "") + remedy };
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
  });
}

function queryOf(fields: object = {}): string {
  const pairs = Object.entries(fields).filter(([, value]) => value != null);
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}

/** Return the path with the segments, encoded. Throws TypeError for one that would lead elsewhere. */
export function pathOf(...segments: string[]): string {
  const wrong = segments.findIndex((each) => typeof each !== "string" || ["", ".", ".."].includes(each));
  if (wrong >= 0) throw new TypeError(`${JSON.stringify(segments[wrong])} is not the id or the alias of a resource.`);
  return `/${segments.map(encodeURIComponent).join("/")}`;
}

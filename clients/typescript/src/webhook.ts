/** Verification of webhooks: signed requests by which discue, or any sender of Standard Webhooks, delivers messages. */

import { bytesOf, bytesToBase64 } from "./base64.js";
import { ConfigurationError, DiscueError } from "./errors.js";
import { oneLine } from "./text.js";

/** The reason for which a request was rejected. `docs/typescript.md` has the usual causes. */
export type Reason = "missing" | "malformed" | "expired" | "early" | "unknown_version" | "no_match" | "too_large";

/** Headers as runtimes and frameworks give them: an object, a map, `Headers`, or pairs of names and values. */
export type WebhookHeaders =
  | Iterable<readonly [string, string]>
  | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface WebhookOptions {
  /** Largest difference between the time of the signature and now, in seconds. Default: 300. */
  tolerance?: number | undefined;
  /** Largest body that is verified. Default: 12 MiB; no request of discue is larger. */
  maxBytes?: number | undefined;
  /** Returns the current time, in milliseconds since the epoch. Default: `Date.now`. */
  now?: (() => number) | undefined;
}

/** A verified message. The signature covers `id`, `timestamp` and `body`, not the other headers. */
export interface WebhookEvent<T = unknown> {
  /** The message's id, the same on every attempt, redelivery and replay. */
  id: string;
  /** JSON as the value that it encodes, text as a string, other data as bytes; null without a body. */
  data: T;
  /** When this attempt was signed. */
  timestamp: Date;
  /** Number of the attempt, from 1. */
  attempt: number;
  /** Type of the event, such as `order.paid`; undefined without one. The signature does not cover it. */
  type: string | undefined;
  /**
   * Place of the message in its queue, higher than that of every earlier message; undefined if it is not in a queue.
   * The signature does not cover it.
   */
  sequence: number | undefined;
  /** Whether this is a test request, not a message. */
  isTest: boolean;
  /** The text to store under a unique constraint: the id; on the requests of a replay, with the replay's id. */
  deduplicationKey: string;
  body: Uint8Array;
  /** All headers of the request. Names are in lower case. */
  headers: ReadonlyMap<string, string>;
}

/** The request must not be trusted. `message` is one line that says why. */
export class SignatureInvalid extends DiscueError {
  readonly reason: Reason;

  constructor(reason: Reason, detail: string) {
    super(detail);
    this.reason = reason;
  }

  /** The HTTP status to respond with. discue sends the message again later. */
  get status(): number {
    return this.reason === "too_large" ? 413 : 401;
  }
}

/** The sender is genuine, and the data is not what its content type says. `message` is one line that says why. */
export class DataInvalid extends DiscueError {
  /** The HTTP status to respond with. discue sends the message again later, perhaps to a corrected receiver. */
  readonly status = 422;
}

const MAX_BYTES = 12 * 1024 * 1024;
// With a dot in it, the end of an id could be read as the timestamp, and the timestamp as the start of the body.
const ID = /^[!-\-/-~]{1,256}$/;
const TIMESTAMP = /^(0|[1-9][0-9]{0,15})$/;
const MAX_SIGNATURE_CHARACTERS = 4096;
const MAX_SIGNATURES = 16;
const NEEDED: Record<string, string> = {
  v1: "a secret (whsec_…), not a public key",
  v1a: "a public key (whpk_…), not a secret",
};
const HMAC = { name: "HMAC", hash: "SHA-256" };
const ED25519 = { name: "Ed25519" };

interface Key {
  version: "v1" | "v1a";
  algorithm: { name: string };
  key: CryptoKey;
}

/**
 * Verify a request and return its message.
 *
 * One of the secrets must match: `whsec_…`, or a public key `whpk_…`. `body` is the raw body, before any parsing. The
 * case of header names does not matter. Throws SignatureInvalid; DataInvalid if the data cannot be decoded; and
 * ConfigurationError for a secret that cannot be used.
 */
export async function verifyWebhook<T = unknown>(
  secrets: string | Iterable<string> | undefined,
  body: Uint8Array | ArrayBuffer | string,
  headers: WebhookHeaders,
  options: WebhookOptions = {},
): Promise<WebhookEvent<T>> {
  const listed = (typeof secrets === "string" ? [secrets] : [...(secrets ?? [])]).map((each) => each.trim());
  if (!listed.length) throw new ConfigurationError("The signing secret is missing.");
  const keys = await Promise.all(listed.map(keyOf));
  const content = contentOf(body);
  const lowered = loweredOf(headers);
  const { id, timestamp } = await verify(keys, content, lowered, options);
  const attempt = lowered.get("discue-attempt") ?? "";
  const sequence = lowered.get("discue-sequence") ?? "";
  const replay = lowered.get("discue-replay");
  return {
    id,
    data: dataOf(content, lowered.get("content-type") ?? "") as T,
    timestamp: new Date(timestamp * 1_000),
    attempt: TIMESTAMP.test(attempt) ? Number(attempt) : 1,
    type: lowered.get("discue-type"),
    sequence: TIMESTAMP.test(sequence) ? Number(sequence) : undefined,
    isTest: lowered.get("discue-test") === "true",
    deduplicationKey: replay ? `${id}/${replay}` : id,
    body: content,
    headers: lowered,
  };
}

async function verify(
  keys: Key[],
  body: Uint8Array,
  headers: ReadonlyMap<string, string>,
  options: WebhookOptions,
): Promise<{ id: string; timestamp: number }> {
  const maxBytes = options.maxBytes ?? MAX_BYTES;
  if (body.length > maxBytes) throw new SignatureInvalid("too_large", `The body is larger than ${maxBytes} bytes.`);
  const id = headerOf(headers, "webhook-id");
  const timestamp = headerOf(headers, "webhook-timestamp");
  const signatures = signaturesOf(headerOf(headers, "webhook-signature"));
  if (!ID.test(id)) throw malformed("webhook-id must have 1 to 256 visible ASCII characters, no dots.");
  if (!TIMESTAMP.test(timestamp)) throw malformed("webhook-timestamp must be a number of seconds.");
  checkTime(Number(timestamp), options);
  const prefix = new TextEncoder().encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(prefix.length + body.length);
  signed.set(prefix);
  signed.set(body, prefix.length);
  for (const [version, text] of signatures) {
    const signature = bytesOf(text);
    // Only the canonical form: the same signature must not have others.
    if (signature === undefined || bytesToBase64(signature) !== text) continue;
    for (const key of keys.filter((each) => each.version === version)) {
      // In constant time: a comparison of texts would reveal how much of a forged signature is right.
      const isValid = await crypto.subtle.verify(key.algorithm, key.key, signature, signed);
      if (isValid) return { id, timestamp: Number(timestamp) };
    }
  }
  throw mismatch(keys, signatures.map(([version]) => version));
}

function malformed(detail: string): SignatureInvalid {
  return new SignatureInvalid("malformed", detail);
}

function checkTime(timestamp: number, { tolerance = 300, now = Date.now }: WebhookOptions): void {
  const age = now() / 1_000 - timestamp;
  if (Math.abs(age) <= tolerance) return;
  const when = `${Math.abs(age).toFixed()} s ${age > 0 ? "ago" : "in the future"}`;
  const detail = `The request was signed ${when}, more than ${tolerance} s. Check the clock.`;
  throw new SignatureInvalid(age > 0 ? "expired" : "early", detail);
}

function mismatch(keys: Key[], versions: string[]): SignatureInvalid {
  const known = versions.find((version) => version in NEEDED);
  if (known === undefined) {
    const listed = oneLine([...new Set(versions)].sort().join(", "));
    return new SignatureInvalid("unknown_version", `No signature is of version v1 or v1a, only ${listed}.`);
  }
  const detail = keys.some((key) => versions.includes(key.version))
    ? "No signature matches: the secret differs, or the body is not the raw body of the request."
    : `The request has only ${known} signatures, which need ${NEEDED[known]}.`;
  return new SignatureInvalid("no_match", detail);
}

function contentOf(body: unknown): Uint8Array {
  if (typeof body === "string") return new TextEncoder().encode(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (body instanceof Uint8Array) return body;
  throw new TypeError("body must be the raw body of the request, before any parsing.");
}

function loweredOf(headers: WebhookHeaders): Map<string, string> {
  const pairs = Symbol.iterator in headers ? headers : Object.entries(headers);
  const lowered = new Map<string, string>();
  for (const [name, value] of pairs as Iterable<[string, string | readonly string[] | undefined]>) {
    if (value === undefined) continue;
    const key = name.toLowerCase();
    const text = typeof value === "string" ? value : value.join(", ");
    lowered.set(key, lowered.has(key) ? `${lowered.get(key)}, ${text}` : text);
  }
  return lowered;
}

function headerOf(headers: ReadonlyMap<string, string>, name: string): string {
  const value = headers.get(name);
  if (!value) throw new SignatureInvalid("missing", `The header ${name} is missing.`);
  if (/[^\0-\x7f]/.test(value)) throw malformed(`${name} must be ASCII text.`);
  return value;
}

/** Return the version and the text of each signature. Throws SignatureInvalid. */
function signaturesOf(text: string): [version: string, signature: string][] {
  if (text.length > MAX_SIGNATURE_CHARACTERS) {
    throw malformed(`webhook-signature has over ${MAX_SIGNATURE_CHARACTERS} characters.`);
  }
  const parts = text.split(" ");
  // Neither the version nor the signature may be empty.
  if (parts.length > MAX_SIGNATURES || !parts.every((part) => /^[^,]+,[^]/.test(part))) {
    throw malformed(`webhook-signature must have 1 to ${MAX_SIGNATURES} parts such as v1,… with a space between.`);
  }
  return parts.map((part) => [part.slice(0, part.indexOf(",")), part.slice(part.indexOf(",") + 1)]);
}

// Errors do not show the text: it is a secret, even if it is a wrong one.
async function keyOf(text: string): Promise<Key> {
  if (text.startsWith("whsk_")) {
    throw new ConfigurationError("whsk_… is a private key, which signs. Pass the public key, whpk_….");
  }
  const isPublic = text.startsWith("whpk_");
  const kind = isPublic ? "A public key must be whpk_" : "A signing secret must be whsec_";
  const bytes = bytesOf(text.replace(/^(whsec|whpk)_/, ""));
  if (bytes === undefined) throw new ConfigurationError(`${kind} and base64.`);
  if (isPublic && bytes.length !== 32) throw new ConfigurationError("An Ed25519 public key has 32 bytes.");
  if (!isPublic && (bytes.length < 24 || bytes.length > 64)) {
    throw new ConfigurationError("A signing secret must have 24 to 64 bytes in base64.");
  }
  const algorithm = isPublic ? ED25519 : HMAC;
  const key = await crypto.subtle.importKey("raw", bytes, algorithm, false, ["verify"]);
  return { version: isPublic ? "v1a" : "v1", algorithm, key };
}

function dataOf(body: Uint8Array, contentType: string): unknown {
  const mediaType = (contentType.split(";")[0] ?? "").trim().toLowerCase();
  const charset = /; *charset="?([^\s";]+)/i.exec(contentType)?.[1] ?? "utf-8";
  try {
    if (mediaType === "application/json" || mediaType.endsWith("+json")) {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    }
    if (mediaType.startsWith("text/")) return new TextDecoder(charset, { fatal: true }).decode(body);
  } catch (error) {
    throw new DataInvalid(`The data is not acceptable: ${oneLine(String(error))}`, { cause: error });
  }
  return body.length || mediaType ? body : null;
}

/** How a client finds and calls a service. */

import { ConfigurationError } from "./errors.js";

/** Sends a request: `globalThis.fetch`, or a function that does the same. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** When a failed request is sent again. */
export interface RetryOptions {
  /** Time for each attempt, in milliseconds. Default: 15,000. */
  timeoutMs?: number | undefined;
  /** Time for a request and all its retries, in milliseconds. Default: 60,000. */
  deadlineMs?: number | undefined;
  /** Maximum number of times that a request is sent. Default: 10. */
  attempts?: number | undefined;
}

export interface ClientOptions extends RetryOptions {
  /** The URL of the service. Default: the environment variable `DISCUE_URL`. */
  url?: string | undefined;
  /** The key that requests carry. Default: the environment variable `DISCUE_API_KEY`. */
  apiKey?: string | undefined;
  /** Default: `globalThis.fetch`. */
  fetch?: Fetch | undefined;
}

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5_000;
const RETRIED = [408, 425, 429];
// Statuses from 500 on that no repetition changes.
const UNCHANGEABLE = [501, 505];

/** Return the URL without its final slashes, and the key. Throws ConfigurationError. */
export function configurationOf(options: ClientOptions): { url: string; apiKey: string } {
  const url = options.url || environment("DISCUE_URL");
  const apiKey = options.apiKey || environment("DISCUE_API_KEY");
  if (!url) throw new ConfigurationError("The URL of the service is missing: pass url, or set DISCUE_URL.");
  if (!apiKey) throw new ConfigurationError("The API key is missing: pass apiKey, or set DISCUE_API_KEY.");
  if (!/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new ConfigurationError("The API key contains spaces, line breaks or non-ASCII characters.");
  }
  if (!URL.canParse(url) || !/^https?:\/\/[^\s?#@]+$/i.test(url) || new URL(url).port === "0") {
    // The message does not show the URL: it may contain a password.
    throw new ConfigurationError("The URL of the service must look like https://discue.example.com:3000.");
  }
  return { url: url.replace(/\/+$/, ""), apiKey };
}

function environment(name: string): string {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name] ?? "";
}

/** Return whether another attempt may have another result. */
export function isRetried(status: number, code: string | undefined): boolean {
  if (status === 409) return code === "request_in_flight";
  return RETRIED.includes(status) || (status >= 500 && !UNCHANGEABLE.includes(status));
}

/** Return how long to wait after an attempt, in milliseconds: no less than the service asks for, with jitter. */
export function waitMs(attempt: number, retryAfter: number | undefined): number {
  const limit = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt - 1, 30));
  const jitter = limit * Math.random();
  if (retryAfter === undefined) return limit / 2 + jitter / 2;
  // Clients that were told the same time must not all come back at that moment.
  return retryAfter * 1_000 + Math.min(jitter, retryAfter * 100 + 50);
}

/** Return the seconds to wait that a response asks for: from `Retry-After` in either form. */
export function retryAfterOf(headers: Headers): number | undefined {
  const value = headers.get("retry-after") ?? "";
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  const date = Date.parse(value);
  if (Number.isNaN(date)) return undefined;
  // By the service's own clock, if it says what that is: the local clock may be wrong.
  const now = Date.parse(headers.get("date") ?? "");
  return Math.max(date - (Number.isNaN(now) ? Date.now() : now), 0) / 1_000;
}

/** Errors that a client raises. All derive from `DiscueError`; those that a response reports derive from `APIError`. */

import { isObject, oneLine, textOf } from "./text.js";

/** Base of every error of this package. */
export class DiscueError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The URL, the API key or a signing secret is missing or cannot be used. */
export class ConfigurationError extends DiscueError {}

/** No response arrived. A request that was sent may have had an effect. */
export class ConnectionFailed extends DiscueError {}

/** No response arrived in time. The request may have had an effect. */
export class TimedOut extends DiscueError {}

/** The response is not one of a discue service: a proxy or another server answered, or the body was cut off. */
export class UnexpectedResponse extends DiscueError {}

/** A wrong value of a request. */
export interface FieldError {
  /** JSON pointer to the value. */
  pointer: string;
  /** The rule that the value violates. */
  detail: string;
}

/** The service refused a request. `message` is one line. */
export class APIError extends DiscueError {
  /** The HTTP status. */
  readonly status: number;
  /** The method and the path of the request. */
  readonly request: string;
  /** The reason, as a stable identifier: branch on it, not on the text. Undefined if the service reports none. */
  readonly code: string | undefined;
  /** The error and what to do, for people; "" if the service reports none. */
  readonly detail: string;
  /** The wrong values of the request, if the response lists them. */
  readonly errors: readonly FieldError[];
  /** The id under which the service logs the request. */
  readonly requestId: string | undefined;
  /** How long the service asks to wait before the next request, in seconds. */
  readonly retryAfter: number | undefined;

  constructor(status: number, request: string, found: Record<string, unknown>, requestId?: string, retryAfter?: number) {
    const [code, title, detail, id] = ["code", "title", "detail", "request_id"].map((name) => textOf(found[name]));
    const listed = Array.isArray(found["errors"]) ? found["errors"].filter(isObject) : [];
    const errors = listed.map((each) => ({ pointer: textOf(each["pointer"]), detail: textOf(each["detail"]) }));
    const rules = errors.map((error) => `${error.pointer}: ${error.detail}`).join("; ");
    const reason = (detail || title || "The request failed.") + (rules && ` (${rules})`);
    const line = oneLine(`${request}: ${code ? `${status} ${code}` : status}: ${reason}`);
    super(id || requestId ? `${line} [request ${id || requestId}]` : line);
    this.status = status;
    this.request = request;
    this.code = code || undefined;
    this.detail = detail ?? "";
    this.errors = errors;
    this.requestId = id || requestId;
    this.retryAfter = retryAfter;
  }

  /** JSON pointers to the wrong values. */
  get pointers(): string[] {
    return this.errors.map((error) => error.pointer);
  }
}

/** 400: the request is malformed or has an unknown field. */
export class BadRequest extends APIError {}

/** 401: the API key is missing, unknown, disabled or expired. */
export class Unauthorized extends APIError {}

/** 402: a quota of the organization is used up. */
export class QuotaExceeded extends APIError {}

/** 403: the API key lacks a scope, or is locked out. */
export class Forbidden extends APIError {}

/** 404: the path or the resource does not exist. */
export class NotFound extends APIError {}

/** 409: the state of the resource does not allow it. */
export class Conflict extends APIError {}

/** 410: the resource existed and does not exist any more. */
export class Gone extends APIError {}

/** 412: the resource has changed since it was fetched. */
export class PreconditionFailed extends APIError {}

/** 413: the body is too large. */
export class TooLarge extends APIError {}

/** 422: a value is not acceptable; `errors` says which. */
export class ValidationFailed extends APIError {}

/** 429: too many requests; `retryAfter` says how long to wait. */
export class RateLimited extends APIError {}

/** 5xx: the service failed. */
export class ServerError extends APIError {}

/** 503: the service is starting, stopping, overloaded, or cannot store. */
export class Unavailable extends ServerError {}

/** What responses report, as errors. */

import * as errors from "./errors.js";
import { LONGEST_LINE, isObject, oneLine } from "./text.js";

const CLASSES: Record<number, typeof errors.APIError> = {
  400: errors.BadRequest,
  401: errors.Unauthorized,
  402: errors.QuotaExceeded,
  403: errors.Forbidden,
  404: errors.NotFound,
  409: errors.Conflict,
  410: errors.Gone,
  412: errors.PreconditionFailed,
  413: errors.TooLarge,
  422: errors.ValidationFailed,
  429: errors.RateLimited,
  503: errors.Unavailable,
};

/** Return the error that a response reports. A body that is no problem document gives `UnexpectedResponse`. */
export function errorOf(response: Response, body: string, request: string, retryAfter?: number): errors.DiscueError {
  const { status, headers } = response;
  const problem = parsed(body);
  if (!isObject(problem) || problem["status"] !== status) {
    const start = oneLine(body.slice(0, LONGEST_LINE)) || "an empty body";
    return new errors.UnexpectedResponse(`${request}: ${status} from something other than discue: ${start}`);
  }
  const kind = CLASSES[status] ?? (status >= 500 ? errors.ServerError : errors.APIError);
  return new kind(status, request, problem, headers.get("x-request-id") ?? undefined, retryAfter);
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** Client for discue: publish messages, verify webhooks. */

export { Discue } from "./client.js";
export type { ClientOptions, Fetch, RetryOptions } from "./configuration.js";
export * from "./errors.js";
export type * from "./generated/models.js";
export { INBOX_TABLE, once, onceSync } from "./inbox.js";
export type { InboxClient, InboxDatabase, InboxOptions } from "./inbox.js";
export type { Pages } from "./pages.js";
export type { RequestFields, RequestOptions } from "./requester.js";
export type { PublishOptions } from "./publishing.js";
export { VERSION } from "./version.js";
export { DataInvalid, SignatureInvalid, verifyWebhook } from "./webhook.js";
export type { Reason, WebhookEvent, WebhookHeaders, WebhookOptions } from "./webhook.js";

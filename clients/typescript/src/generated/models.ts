/**
 * Objects that the service returns and takes.
 *
 * Written by `make docs` from `docs/openapi.json`. Do not edit.
 */

/** One of the values, or one that a later version of the service adds. */
export type Open<T> = T | (string & {});

/** Acknowledgements of pulled messages, by receipt. */
export interface AcknowledgementsBody {
  /** Receipts of messages that were processed. */
  acknowledge?: readonly string[] | null | undefined;
  /** Receipts of messages that could not be processed: retried according to the retry policy. */
  reject?: readonly string[] | null | undefined;
  /** Receipts of messages to give back, without counting an attempt. */
  release?: readonly string[] | null | undefined;
  /** Receipts of messages whose lease starts again. */
  extend?: readonly string[] | null | undefined;
  /** When messages in `release` are due again, in seconds. Default: at once. */
  delay?: number | null | undefined;
  /** How long messages in `extend` stay leased from now on, in seconds. Default: set by the listener. */
  lease_seconds?: number | null | undefined;
}

/** An API key. */
export interface ApiKey {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** Whether it is in use. */
  status: Open<"enabled" | "disabled">;
  /** The key: complete in the response to its creation, later only its first characters. */
  key: string;
  /**
   * Permissions: a map from resource to `access` (`write` includes `read`) and `targets` (ids; all if empty or
   * `*`).
   */
  scopes: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** When the key was last used, in milliseconds since the epoch; 0: never. */
  last_used_at: number;
  /** When the key expires, in milliseconds since the epoch; 0: never. */
  expires_at: number;
}

/** An API key to create, or the changes to one. */
export interface ApiKeyBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** Whether it is in use. */
  status?: "enabled" | "disabled" | null | undefined;
  /**
   * Permissions: a map from resource to `access` (`write` includes `read`) and `targets` (ids; all if empty or
   * `*`). Older clients send a list. Not available through the API: api_clients, api_keys, portal, subscriptions,
   * users.
   */
  scopes?: Readonly<Record<string, Readonly<Record<string, unknown>>>> | readonly (Readonly<Record<string, unknown>>)[] | undefined;
  /** When the key expires, in milliseconds since the epoch; 0: never. */
  expires_at?: number | null | undefined;
}

/** A response. */
export interface ApiKeyResponse {
  /** The API key. */
  api_key: ApiKey;
}

/** A rule for a property: array values. */
export interface ArrayRule {
  /** The type of the value. */
  type: Open<"array">;
  /** Whether it must be there and not null. */
  required?: boolean | undefined;
  /** The rule of each item. */
  items: StringRule | NumberRule | ObjectRule | ArrayRule;
}

/** An attempt to deliver a message. The fields after `replay_id` are shown for a single attempt only, if kept. */
export interface Attempt {
  /** The id, shared with the usage event of the attempt. */
  id: string;
  /** The id of the message. Omitted once the message is deleted. */
  message_id?: string | undefined;
  /** The id of the listener. */
  listener_id: string;
  /** The number of the attempt, from 1. */
  number: number;
  /** The outcome. */
  state: Open<"acknowledged" | "failed">;
  /** The status of the response; 0: no response. */
  status: number;
  /** Why it failed; empty if it did not. */
  error: Open<"" | "status" | "redirect" | "resolve" | "refused_address" | "connect" | "connect_timeout" | "tls" | "timeout" | "reset" | "protocol" | "response_too_large" | "authentication" | "egress_proxy" | "internal" | "rejected" | "lease_expired">;
  /** The failure as a sentence. */
  detail: string;
  /** How long it took, in milliseconds. */
  took_ms: number;
  /**
   * Whether the address is not public. The response, its timings and `detail` are then not shown, and `status` is
   * the first of its class, such as 500.
   */
  withheld: boolean;
  /** When it started, in milliseconds since the epoch. */
  started_at: number;
  /** When it ended and was recorded, in milliseconds since the epoch. */
  created_at: number;
  /** The id of the replay that it belongs to, if any. */
  replay_id?: string | undefined;
  /** When the next attempt may start, in milliseconds since the epoch. Omitted if none follows. */
  next_attempt_at?: number | undefined;
  /** The connection. Omitted if none was established or tried. */
  connection?: Connection | undefined;
  /** How long each stage took. */
  timings?: Timings | undefined;
  /** The request, without the message's data. */
  request?: Request | undefined;
  /** The response. Omitted if there was none. */
  response?: Response | undefined;
}

/** A response. */
export interface AttemptResponse {
  /** The attempt. */
  attempt: Attempt;
}

/** How requests authenticate to the listener, without secrets. */
export interface Authentication {
  /** The authentication scheme. */
  type: Open<"basic" | "oauth2" | "certificate">;
  /** `basic`: the user name, without a colon. */
  username?: string | undefined;
  /** `oauth2`: the token endpoint. */
  token_url?: string | undefined;
  /** `oauth2`: the client id. */
  client_id?: string | undefined;
  /** `oauth2`: the requested scopes. */
  scope?: string | undefined;
  /** `oauth2`: the audience of the token, if the token endpoint requires one. */
  audience?: string | undefined;
  /** `certificate`: the client certificate in PEM, followed by its intermediate certificates. */
  certificate?: string | undefined;
}

/** How requests authenticate to the listener. The type decides which of the other fields are needed. */
export interface AuthenticationBody {
  /** The authentication scheme. */
  type: "basic" | "oauth2" | "certificate";
  /** `basic`: the user name, without a colon. */
  username: string | null;
  /** `basic`: the password. Never shown. */
  password: string | null;
  /** `oauth2`: the token endpoint. */
  token_url: string | null;
  /** `oauth2`: the client id. */
  client_id: string | null;
  /** `oauth2`: the client secret. Never shown. */
  client_secret: string | null;
  /** `oauth2`: the requested scopes. */
  scope: string | null;
  /** `oauth2`: the audience of the token, if the token endpoint requires one. */
  audience: string | null;
  /** `certificate`: the client certificate in PEM, followed by its intermediate certificates. */
  certificate: string | null;
  /** `certificate`: the private key in PEM, not encrypted. Never shown. */
  private_key: string | null;
}

/** Messages to publish. */
export interface BatchBody {
  /** The messages, in order. */
  messages: readonly MessageBody[];
}

/** How to verify a domain. */
export interface Challenge {
  /** A file at `/<context_path>/<file_name>` with exactly this content. */
  https: HttpsChallenge;
}

/** A channel from a topic to a queue. */
export interface Channel {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the topic. */
  topic_id: string;
  /** The id of the queue that it leads to. */
  queue_id: string;
  /** Which types pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages pass. */
  pattern?: string | undefined;
  /** Which messages pass: conditions on their data, headers and key. */
  filter?: Readonly<Record<string, unknown>> | undefined;
}

/** A channel to create, or the changes to one. */
export interface ChannelBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** Id or alias of the queue that the channel leads to. Fixed at creation. */
  queue_id?: string | undefined;
  /**
   * Which types pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages pass.
   * null: none.
   */
  pattern?: string | null | undefined;
  /** Which messages pass: conditions on their data, headers and key. null: all. */
  filter?: MessageFilter | null | undefined;
}

/** A response. */
export interface ChannelResponse {
  /** The channel. */
  channel: Channel;
}

/** The result of one condition. */
export interface Condition {
  /** JSON pointer to the condition in the filter. */
  pointer: string;
  /** Whether it is met. */
  holds: boolean;
}

/** The connection of an attempt. */
export interface Connection {
  /** The address and port that was connected to, or the last one tried. */
  address: string;
  /** Whether the connection was reused. */
  reused: boolean;
}

/** The organization that was created, and its first API key. */
export interface CreatedOrganizationResponse {
  /** The organization. */
  organization: Organization;
  /** The API key. */
  api_key: ApiKey;
}

/** A response. */
export interface CreatedRedeliveryResponse {
  /** The redelivery. */
  redelivery?: Redelivery | undefined;
  /** The messages that are selected, in a dry run. */
  dry_run?: DryRun | undefined;
}

/** The replay that was started, or the result of a dry run. */
export interface CreatedReplayResponse {
  /** The replay. */
  replay?: Replay | undefined;
  /** The messages that are selected, in a dry run. */
  dry_run?: DryRun | undefined;
}

/** The delivery of a message to one listener. */
export interface Delivery {
  /** The id of the listener. */
  listener_id: string;
  /** The state of the delivery. `filtered`: the listener's filter excludes the message. */
  state: Open<"acknowledged" | "pending" | "retrying" | "missed" | "filtered">;
  /** Number of attempts so far. */
  attempts: number;
  /** The status of the last response; 0: no response. */
  last_status: number;
  /** When a `retrying` delivery may be tried again, in milliseconds since the epoch. Omitted during an attempt. */
  next_attempt_at?: number | undefined;
  /** Why a `missed` delivery is not tried again. */
  missed_reason?: string | undefined;
  /** The id of the message that must be settled first. */
  blocked_by?: string | undefined;
  /** A sentence that says why a `pending` or `retrying` delivery waits. */
  waits_for?: string | undefined;
  /** Why the last attempt failed. Omitted if it did not. */
  last_error?: Open<"status" | "redirect" | "resolve" | "refused_address" | "connect" | "connect_timeout" | "tls" | "timeout" | "reset" | "protocol" | "response_too_large" | "authentication" | "egress_proxy" | "internal" | "rejected" | "lease_expired"> | undefined;
  /** A sentence that says why the last attempt failed. */
  last_detail?: string | undefined;
}

/** The result of a test request. If it is `withheld`, only `request` is shown of the fields after that. */
export interface DeliveryTest {
  /** The message id that was sent. There is no such message. */
  message_id: string;
  /** When it started, in milliseconds since the epoch. */
  started_at: number;
  /** The outcome. */
  state: Open<"acknowledged" | "failed">;
  /** Why it failed; empty if it did not. */
  error: Open<"" | "status" | "redirect" | "resolve" | "refused_address" | "connect" | "connect_timeout" | "tls" | "timeout" | "reset" | "protocol" | "response_too_large" | "authentication" | "egress_proxy" | "internal" | "rejected" | "lease_expired">;
  /** The class of the response's status; empty without a response. */
  status_class: string;
  /** Whether the address is not public. The response and its timings are then not shown. */
  withheld: boolean;
  /** The status of the response; 0: no response. */
  status?: number | undefined;
  /** Why it failed; empty if it did not. */
  detail?: string | undefined;
  /** How long it took, in milliseconds. */
  took_ms?: number | undefined;
  /** The connection. Omitted if none was established or tried. */
  connection?: Connection | undefined;
  /** How long each stage took. */
  timings?: Timings | undefined;
  /** The request, without the message's data. */
  request?: Request | undefined;
  /** The response. Omitted if there was none. */
  response?: Response | undefined;
}

/** A test request to a listener. */
export interface DeliveryTestBody {
  /** The data to send. Default: `{"test": true}`. */
  data?: unknown;
  /** Bytes, in base64, instead of `data`. A queue with a schema does not accept them. */
  data_base64?: string | null | undefined;
  /**
   * The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
   * `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and `application/octet-
   * stream` for `data_base64`.
   */
  content_type?: string | null | undefined;
  /** The type of the event: words separated by dots. */
  type?: string | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
}

/** The result of a test request. */
export interface DeliveryTestResponse {
  /** The result. */
  test: DeliveryTest;
}

/** A domain. */
export interface Domain {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** A DNS name, not an IP address. */
  hostname: string;
  /** The port. Verified over http on port 80, else over https. Default: 443. */
  port: Open<"80" | "443"> | number;
  /** How to verify the domain. */
  challenge: Challenge;
  /** Whether it is verified. */
  verification: Verification;
}

/** A domain to create, or the changes to one. `hostname` and `port` are fixed at creation. */
export interface DomainBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** A DNS name, not an IP address. */
  hostname?: string | undefined;
  /** The port. Verified over http on port 80, else over https. Default: 443. */
  port?: "80" | "443" | number | null | undefined;
}

/** A response. */
export interface DomainResponse {
  /** The domain. */
  domain: Domain;
}

/** The messages that a dry run selects. */
export interface DryRun {
  /** Number selected. Single deliveries outside of ranges are counted up to 100,000. */
  selected: number;
  /** The id of the oldest message; empty if there is none. */
  first_message: string;
  /** The id of the newest message; empty if there is none. */
  last_message: string;
}

/** The options in effect: set for the listener, its queue, its organization, or the service. */
export interface EffectiveOptions {
  /** Timeout of an attempt, in seconds. */
  timeout?: number | undefined;
  /** How long a pulled message stays leased, in seconds. */
  lease_seconds?: number | undefined;
  /** Maximum number of requests in flight. */
  max_in_flight: number;
  /** Retry policy. */
  retry: RetryPolicy;
  /** How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes. */
  format: Open<"plain" | "cloudevents_binary" | "cloudevents_structured">;
  /**
   * The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
   * with every attempt (`restart`), or none (`none`).
   */
  trace: Open<"propagate" | "restart" | "none">;
  /** The maximum rate of requests to this listener, over all workers. */
  rate_limit?: RateLimit | undefined;
}

/** A listener that received erased messages. */
export interface ErasedDelivery {
  /** The id of the listener. */
  listener: string;
  /** Number of erased messages sent to the listener, as far as recorded. */
  count: number;
}

/** An erasure of the messages with one key. */
export interface Erasure {
  /** The id, assigned at creation. */
  id: string;
  /** The id. */
  alias: string;
  /** The id. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id: string;
  /** The key of the messages. */
  key: string;
  /** The progress. */
  state: Open<"running" | "done">;
  /** Number of messages erased. */
  erased: number;
  /**
   * Listeners to which erased messages were sent, whatever their responses. Attempts in flight are added within
   * twelve minutes.
   */
  delivered: readonly ErasedDelivery[];
  /** When the last message was erased, in milliseconds since the epoch; 0: not yet. */
  ended_at: number;
}

/** The key whose messages are erased. */
export interface ErasureBody {
  /** The key of the messages. */
  key: string;
}

/** A response. */
export interface ErasureResponse {
  /** The erasure. */
  erasure: Erasure;
}

/** A usage event. Its subject is in the field named after its kind. */
export interface Event {
  /** The id of the event. */
  id: string;
  /** The type of the event. */
  type: string;
  /** When it happened, in milliseconds since the epoch. */
  stored_at: number;
  /** The organization. */
  client: EventClient;
  /** The id of the API key that was used, if known. */
  api_key_id?: string | undefined;
  /** The id of the user, or of the session of a customer in the portal, who did it, if known. */
  user_id?: string | undefined;
  /** The message. */
  message?: EventSubject | undefined;
  /** The API key. */
  api_key?: EventSubject | undefined;
  /** The queue. */
  queue?: EventSubject | undefined;
  /** The listener. */
  listener?: EventSubject | undefined;
  /** The organization. */
  organization?: EventSubject | undefined;
  /** The domain. */
  domain?: EventSubject | undefined;
  /** The user. */
  user?: EventSubject | undefined;
  /** The topic. */
  topic?: EventSubject | undefined;
  /** The channel. */
  channel?: EventSubject | undefined;
  /** The event type. */
  event_type?: EventSubject | undefined;
  /** The source. */
  source?: EventSubject | undefined;
  /** The queue of the erasure. */
  erasure?: EventSubject | undefined;
  /** The client address of a lockout of unknown keys or sign-ins. */
  address?: EventSubject | undefined;
  /** The session of a user, by the user's email. */
  session?: EventSubject | undefined;
  /** The user whose second factor it is. */
  second_factor?: EventSubject | undefined;
  /** The session of a customer in the portal, by the customer. */
  portal_session?: EventSubject | undefined;
}

/** The organization of an event. */
export interface EventClient {
  /** The id, assigned at creation. Ids sort by time. */
  id: string;
}

/** Numbers of events by type. */
export interface EventCounts {
  /** API keys created. */
  api_key_added: number;
  /** API keys changed. */
  api_key_updated: number;
  /** API keys deleted. */
  api_key_deleted: number;
  /** Queues created. */
  queue_added: number;
  /** Queues changed. */
  queue_updated: number;
  /** Queues deleted. */
  queue_deleted: number;
  /** Listeners created. */
  listener_added: number;
  /** Listeners changed. */
  listener_updated: number;
  /** Listeners deleted. */
  listener_deleted: number;
  /** Messages published. */
  message_added: number;
  /** Attempts acknowledged. */
  message_published_ok: number;
  /** Attempts failed. */
  message_published_not_ok: number;
}

/** The subject of an event. */
export interface EventSubject {
  /** Id of the resource. */
  id: string;
  /** Alias of the resource at that time. */
  name: string;
}

/** An event type. */
export interface EventType {
  /** The id, assigned at creation. */
  id: string;
  /** A synonym of `type`. */
  alias: string;
  /** A synonym of `type`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The type of the messages. Unique in the organization. */
  type: string;
  /** A `deprecated` event type is offered only to listeners that have it. Its messages are still published. */
  status: Open<"enabled" | "deprecated">;
  /** When the event happens, for customers. */
  description?: string | undefined;
  /** JSON Schema (2020-12) of the data. The schema and the example have at most 65,536 bytes together. */
  json_schema?: Readonly<Record<string, unknown>> | boolean | undefined;
  /** An example of the data, for customers, forms and tests. */
  example?: unknown;
}

/** An event type to create, or the changes to one. */
export interface EventTypeBody {
  /** The type of the messages. Unique in the organization. */
  type?: string | undefined;
  /** When the event happens, for customers. */
  description?: string | null | undefined;
  /** A `deprecated` event type is offered only to listeners that have it. Its messages are still published. */
  status?: "enabled" | "deprecated" | null | undefined;
  /** JSON Schema (2020-12) of the data. The schema and the example have at most 65,536 bytes together. null: none. */
  json_schema?: Readonly<Record<string, unknown>> | boolean | null | undefined;
  /** An example of the data, for customers, forms and tests. null: none. */
  example?: unknown;
}

/** A response. */
export interface EventTypeResponse {
  /** The event type. */
  event_type: EventType;
}

/** Numbers of events by period. */
export interface EventWindows {
  /** The last 24 hours. */
  last_24_hours: EventCounts;
  /** The last hour. */
  last_1_hours: EventCounts;
  /** Since midnight UTC. */
  today_so_far: EventCounts;
}

/** A message without a body. */
export interface FailedTransform {
  /** The id of the message. */
  message_id: string;
  /** The type of the event. */
  type?: string | undefined;
  /** Why the message has no body. */
  detail: string;
}

/**
 * Operators, and conditions by path. A condition is a value to equal, a list of values to equal one of, or such an
 * object. At most 10 `$regex`.
 */
export interface FilterCondition {
  /** A value to compare with. */
  "$eq"?: string | number | boolean | null | undefined;
  /** A value to compare with. */
  "$contains"?: string | number | boolean | null | undefined;
  /** A bound of the value. */
  "$gt"?: number | string | undefined;
  /** A bound of the value. */
  "$gte"?: number | string | undefined;
  /** A bound of the value. */
  "$lt"?: number | string | undefined;
  /** A bound of the value. */
  "$lte"?: number | string | undefined;
  /** A text to look for, or a pattern. */
  "$prefix"?: string | undefined;
  /** A text to look for, or a pattern. */
  "$suffix"?: string | undefined;
  /** A text to look for, or a pattern. */
  "$regex"?: string | undefined;
  /** Values of which the value must be one. */
  "$in"?: readonly (string | number | boolean | null)[] | undefined;
  /** Whether there must be a value. */
  "$exists"?: boolean | undefined;
  /** Conditions that must all be met. */
  "$and"?: readonly (string | number | boolean | null | readonly (string | number | boolean | null)[] | FilterCondition)[] | undefined;
  /** Conditions of which at least one must be met. */
  "$or"?: readonly (string | number | boolean | null | readonly (string | number | boolean | null)[] | FilterCondition)[] | undefined;
  /** A condition that must not be met. */
  "$not"?: string | number | boolean | null | readonly (string | number | boolean | null)[] | FilterCondition | undefined;
}

/** The result of a filter. */
export interface FilterTest {
  /** Whether the listener receives such a message. */
  matches: boolean;
  /** Whether the types match; true without types. */
  type_matches: boolean;
  /** The result of each condition of the filter by itself. */
  conditions: readonly Condition[];
}

/** A filter to try on a stored message, or on the message in the request. */
export interface FilterTestBody {
  /** The filter to try. Default: the listener's. */
  filter?: MessageFilter | null | undefined;
  /**
   * Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more. A
   * message without a type matches none. null: all messages.
   */
  types?: readonly string[] | null | undefined;
  /** The id of a stored message of the queue. */
  message_id?: string | null | undefined;
  /** The data of a message. Either this, `data_base64` or `message_id` is required. */
  data?: unknown;
  /** Bytes, in base64, instead of `data`. A queue with a schema does not accept them. */
  data_base64?: string | null | undefined;
  /**
   * The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
   * `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and `application/octet-
   * stream` for `data_base64`.
   */
  content_type?: string | null | undefined;
  /** The type of the event: words separated by dots. */
  type?: string | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** The key of the message. */
  key?: string | null | undefined;
}

/** The result of a filter test. */
export interface FilterTestResponse {
  /** The result. */
  filter_test: FilterTest;
}

/** A header field. */
export interface Header {
  /** The name. */
  name: string;
  /** The value. */
  value: string;
}

/** The health of the service. */
export interface HealthResponse {
  /** The health of the service. `damaged`: ready, but see `detail`. */
  status: Open<"live" | "ready" | "damaged">;
  /** Number of queues with data that cannot be read, plus 1 for damaged data that belongs to no single queue. */
  damaged?: number | undefined;
  /** The problem and its remedy. */
  detail?: string | undefined;
}

/** The file that verifies a domain. */
export interface HttpsChallenge {
  /** The content of the file. */
  file_content: string;
  /** The name of the file. */
  file_name: string;
  /** The path of the file, without leading and trailing slashes. */
  context_path: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it expires, unless the file was found before, in milliseconds since the epoch. */
  expires_at: number;
}

/** An invitation. `url` and `token` are shown once, in the response to the request that created it. */
export interface Invitation {
  /** When it expires, in milliseconds since the epoch. */
  expires_at: number;
  /** The URL to send to the user. */
  url?: string | undefined;
  /** The token that accepts the invitation. */
  token?: string | undefined;
}

/** The acceptance of an invitation. */
export interface InvitationBody {
  /** The token that accepts the invitation. */
  token: string;
  /** The password, in NFC characters. Never shown. */
  password: string;
}

/** The limits of an API key, its organization, and a request. */
export interface Limits {
  /** The rate limit of the API key. */
  rate_limit: RateLimitStatus;
  /** The quotas of the organization. Set by the operator. */
  quotas: QuotaUsage;
  /** How long messages are kept in queues without a retention of their own, in seconds. */
  retention: number;
  /** Maximum size of a message, in bytes. */
  max_message_bytes: number;
  /** Maximum number of messages in a batch. */
  max_batch_messages: number;
  /** Maximum size of a batch, in bytes. */
  max_batch_bytes: number;
  /** Maximum number of items per page. */
  max_per_page: number;
  /**
   * Whether listeners can have addresses that are not public: all, those in `some` networks, or none. Set by the
   * operator.
   */
  private_targets: Open<"all" | "none" | "some">;
}

/** A response. */
export interface LimitsResponse {
  /** The limits. */
  limits: Limits;
}

/** A listener. Options that were not set are omitted. */
export interface Listener {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id: string;
  /** Whether it is in use. */
  status: Open<"enabled" | "disabled">;
  /**
   * Why it receives nothing, or little: it is disabled or inactive, or its domain is not verified. Empty if nothing
   * prevents it.
   */
  status_reason: string;
  /** When it was last enabled or disabled, or became inactive or stopped to be, in milliseconds since the epoch. */
  status_changed_at: number;
  /** `push` (the default): messages are sent to it. `pull`: its consumers fetch them. Fixed at creation. */
  mode: Open<"push" | "pull">;
  /** Where messages are sent: an http or https URL without credentials and fragment. Push mode only. */
  notify_url?: string | undefined;
  /**
   * Where the listener's liveness is checked: an http or https URL without credentials and fragment. null: nowhere.
   * Push mode only.
   */
  liveness_url?: string | undefined;
  /** The results of liveness checks. */
  liveness: Liveness;
  /** The state of its deliveries. */
  messages: ListenerMessages;
  /** The options in effect: set for the listener, its queue, or the service. */
  effective: EffectiveOptions;
  /** How long a pulled message stays leased, in seconds. Default: 30. Pull mode only. */
  lease_seconds?: number | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Timeout of an attempt, response body included, in seconds. */
  timeout?: number | undefined;
  /** Maximum number of requests in flight. */
  max_in_flight?: number | undefined;
  /** The maximum rate of requests to this listener, over all workers. */
  rate_limit?: RateLimit | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: Retry | undefined;
  /**
   * Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more. A
   * message without a type matches none. null: all messages.
   */
  types?: readonly string[] | undefined;
  /** Which messages it receives: conditions on their data, headers and key. */
  filter?: Readonly<Record<string, unknown>> | undefined;
  /**
   * JMESPath expression over `id`, `type`, `key`, `headers`, `created_at` and `data`. Its JSON result is the body
   * that the listener receives. null: the data is sent as it is.
   */
  transform?: string | undefined;
  /** How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes. */
  format?: Open<"plain" | "cloudevents_binary" | "cloudevents_structured"> | undefined;
  /**
   * The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
   * with every attempt (`restart`), or none (`none`).
   */
  trace?: Open<"propagate" | "restart" | "none"> | undefined;
  /** A note about the purpose of the listener. It has no effect on deliveries. null: none. */
  description?: string | undefined;
  /**
   * Your name or id of the customer that the listener belongs to. Sessions of the portal see only the listeners of
   * their customer. In a customer's queue, it is always that customer. null: none.
   */
  customer?: string | undefined;
  /** How requests authenticate to the listener, without secrets. */
  authentication?: Authentication | undefined;
  /** The signing secret. Shown at creation only. */
  secret?: string | undefined;
}

/** A listener to create, or the changes to one. */
export interface ListenerBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** Where messages are sent: an http or https URL without credentials and fragment. Push mode only. */
  notify_url?: string | undefined;
  /**
   * Where the listener's liveness is checked: an http or https URL without credentials and fragment. null: nowhere.
   * Push mode only.
   */
  liveness_url?: string | null | undefined;
  /** Whether it is in use. */
  status?: "enabled" | "disabled" | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** Timeout of an attempt, response body included, in seconds. */
  timeout?: number | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
  /** Maximum number of requests in flight. */
  max_in_flight?: number | null | undefined;
  /** The maximum rate of requests to this listener, over all workers. */
  rate_limit?: RateLimitBody | null | undefined;
  /**
   * Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more. A
   * message without a type matches none. null: all messages.
   */
  types?: readonly string[] | null | undefined;
  /** Which messages it receives: conditions on their data, headers and key. null: all. */
  filter?: MessageFilter | null | undefined;
  /**
   * JMESPath expression over `id`, `type`, `key`, `headers`, `created_at` and `data`. Its JSON result is the body
   * that the listener receives. null: the data is sent as it is.
   */
  transform?: string | null | undefined;
  /** How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes. */
  format?: "plain" | "cloudevents_binary" | "cloudevents_structured" | null | undefined;
  /** `push` (the default): messages are sent to it. `pull`: its consumers fetch them. Fixed at creation. */
  mode?: "push" | "pull" | null | undefined;
  /** How long a pulled message stays leased, in seconds. Default: 30. Pull mode only. */
  lease_seconds?: number | null | undefined;
  /**
   * The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
   * with every attempt (`restart`), or none (`none`).
   */
  trace?: "propagate" | "restart" | "none" | null | undefined;
  /** A note about the purpose of the listener. It has no effect on deliveries. null: none. */
  description?: string | null | undefined;
  /**
   * Your name or id of the customer that the listener belongs to. Sessions of the portal see only the listeners of
   * their customer. In a customer's queue, it is always that customer. null: none.
   */
  customer?: string | null | undefined;
  /** How requests authenticate to the listener, in addition to their signatures. null: by signatures alone. */
  authentication?: AuthenticationBody | null | undefined;
}

/** The state of a listener's deliveries. */
export interface ListenerMessages {
  /** Number of messages acknowledged. */
  acknowledged_count: number;
  /** Ids of missed messages, newest first, at most 100. */
  missed: readonly string[];
  /** Number of messages missed. */
  missed_count: number;
  /** Number of messages that wait for the listener. */
  pending_count: number;
  /** When an attempt last succeeded, in milliseconds since the epoch; 0: never. */
  last_success_at: number;
  /** When an attempt last failed, in milliseconds since the epoch; 0: never. */
  last_failure_at: number;
  /** The status of the response to the last failed attempt; 0: no response, or no failure. */
  last_failure_status: number;
  /** Why the last failed attempt failed; empty if no attempt failed, or the attempt is no longer kept. */
  last_failure_msg: string;
}

/** A response. */
export interface ListenerResponse {
  /** The listener. */
  listener: Listener;
}

/** The results of liveness checks. Times and statuses are 0, and texts empty, as long as there are none. */
export interface Liveness {
  /** The liveness of the listener. */
  state: Open<"unknown" | "stable" | "unstable" | "inactive">;
  /** Number of successful checks. */
  success_count: number;
  /** Number of failed checks. */
  failure_count: number;
  /** When a check last succeeded, in milliseconds since the epoch; 0: never. */
  last_success_at: number;
  /** When a check last failed, in milliseconds since the epoch; 0: never. */
  last_failure_at: number;
  /** Status of the response to the last failed check; 0: no response. */
  last_failure_status: number;
  /** Why the last failed check failed; empty if none failed. */
  last_failure_msg: string;
}

/**
 * A message. Responses to a publish have the base fields only; lists also `queue_id`, `size`, `state`, `type`,
 * `sequence`, `key` and `headers`.
 */
export interface Message {
  /** The id, assigned when it is published. */
  id: string;
  /** The name, which need not be unique. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id?: string | undefined;
  /** The data, in the form in which it was sent. */
  data?: unknown;
  /** The data, if it was sent as `data_base64`. */
  data_base64?: string | undefined;
  /** The media type of the data, if it was published with one. */
  content_type?: string | undefined;
  /** The type of the event. */
  type?: string | undefined;
  /**
   * The place of the message in its queue: higher than that of every message committed before it. Numbers may be
   * skipped.
   */
  sequence?: number | undefined;
  /** When it is delivered, if later than its creation, in milliseconds since the epoch. */
  deliver_at?: number | undefined;
  /** When it expires, in milliseconds since the epoch: a listener that has not received it by then misses it. */
  expires_at?: number | undefined;
  /** In an ordered queue, messages with the same key are delivered one after the other. */
  key?: string | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** The size of the data, in bytes. */
  size?: number | undefined;
  /**
   * The first that a delivery has of `missed`, `retrying` and `pending`, else `acknowledged`, which includes
   * deliveries that filters exclude; `no_listeners`: published before the queue had any. In lists with a
   * `listener`, the state for that one. Omitted where reading it takes too long: in queues with more than 1,000
   * listeners, and on pages with more than 10,000 deliveries that are missed or wait for a retry; the listeners of
   * a page of several queues share the 1,000, with at least 100 for each queue.
   */
  state?: Open<"acknowledged" | "pending" | "retrying" | "missed" | "no_listeners"> | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: Retry | undefined;
  /** Deliveries to the oldest 100 listeners. */
  deliveries?: readonly Delivery[] | undefined;
}

/** A message to publish. */
export interface MessageBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** The data: a string, or any other JSON value, which is delivered as written. */
  data?: unknown;
  /** Bytes, in base64, instead of `data`. A queue with a schema does not accept them. */
  data_base64?: string | null | undefined;
  /**
   * The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
   * `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and `application/octet-
   * stream` for `data_base64`.
   */
  content_type?: string | null | undefined;
  /** The type of the event: words separated by dots. */
  type?: string | null | undefined;
  /**
   * When to deliver it, in milliseconds since the epoch: at most a year ahead; at once if it has passed. Cannot be
   * combined with `delay`.
   */
  deliver_at?: number | null | undefined;
  /** How long to hold it back, in seconds. Cannot be combined with `deliver_at`. */
  delay?: number | null | undefined;
  /** When it expires, in milliseconds since the epoch: a listener that has not received it by then misses it. */
  expires_at?: number | null | undefined;
  /** In an ordered queue, messages with the same key are delivered one after the other. */
  key?: string | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
}

/** A new alias for a message. Nothing else of a message can change. */
export interface MessageChangeBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
}

/** Conditions that must all be met: at most 100, 8 levels, 8,192 bytes. */
export interface MessageFilter {
  /** Conditions on the data, by path. */
  data?: FilterCondition | undefined;
  /** Conditions on headers, by name. */
  headers?: FilterCondition | undefined;
  /** A condition on the key. */
  key?: string | number | boolean | null | readonly (string | number | boolean | null)[] | FilterCondition | undefined;
  /** Filters that must all match. */
  "$and"?: readonly MessageFilter[] | undefined;
  /** Filters of which at least one must match. */
  "$or"?: readonly MessageFilter[] | undefined;
  /** A filter that must not match. */
  "$not"?: MessageFilter | undefined;
}

/** A response. */
export interface MessageResponse {
  /** The message. */
  message: Message;
}

/** A response. */
export interface MessagesResponse {
  /** The messages, newest first. */
  messages: readonly Message[];
}

/** Selects missed messages to redeliver. */
export interface MissedFilterBody {
  /** Only messages missed for this reason. */
  reason?: "attempts_used_up" | "expired" | "final_status" | "no_retry" | "too_old" | "transform" | null | undefined;
  /** Only messages stored later than this, in milliseconds since the epoch. */
  created_after?: number | null | undefined;
  /** Only messages stored earlier than this, in milliseconds since the epoch. */
  created_before?: number | null | undefined;
}

/** The messages that a listener missed for the same cause. */
export interface MissedGroup {
  /** The id of the group. */
  id: string;
  /** The queue. */
  queue: Reference;
  /** The listener. */
  listener: Reference;
  /** Why they were missed. */
  reason: Open<"attempts_used_up" | "expired" | "final_status" | "no_retry" | "too_old" | "transform">;
  /** HTTP status of the last response; 0: none. */
  status: number;
  /**
   * The beginning of one of the responses, or why there was none. Empty if nothing was sent, and for causes after
   * the first 100 of the listener. The listener chose this text: escape it in pages.
   */
  text: string;
  /** Number of messages. It may include deleted messages. */
  count: number;
  /** When the first one was missed, in milliseconds since the epoch. */
  first_at: number;
  /** When the last one was missed, in milliseconds since the epoch. */
  last_at: number;
  /** The ids of up to five messages, newest first. */
  sample: readonly string[];
}

/** A message that a listener missed. */
export interface MissedMessage {
  /** The id of the message. */
  id: string;
  /** The name, which need not be unique. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** The id of the queue. */
  queue_id: string;
  /** The id of the listener. */
  listener_id: string;
  /** When the message was stored, in milliseconds since the epoch. */
  stored_at: number;
  /** The type of the event. */
  type?: string | undefined;
  /** When it was missed, in milliseconds since the epoch. */
  missed_at: number;
  /**
   * Why it was missed: it ran out of attempts, expired, got a final response, was rejected for good, was too old,
   * or could not be transformed.
   */
  reason: Open<"attempts_used_up" | "expired" | "final_status" | "no_retry" | "too_old" | "transform">;
  /** Number of attempts. */
  attempts: number;
  /** The status of the response to the last failed attempt; 0: no response, or no failure. */
  last_failure_status: number;
  /** Why the last failed attempt failed; empty if no attempt failed, or the attempt is no longer kept. */
  last_failure_msg: string;
}

/** A channel to create, or the changes to one. */
export interface NewChannel {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** Id or alias of the queue that the channel leads to. Fixed at creation. */
  queue_id: string;
  /**
   * Which types pass: `*` stands for one word, a final `>` for one or more. Without a pattern, all messages pass.
   * null: none.
   */
  pattern?: string | null | undefined;
  /** Which messages pass: conditions on their data, headers and key. null: all. */
  filter?: MessageFilter | null | undefined;
}

/** A domain to create, or the changes to one. `hostname` and `port` are fixed at creation. */
export interface NewDomain {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** A DNS name, not an IP address. */
  hostname: string;
  /** The port. Verified over http on port 80, else over https. Default: 443. */
  port?: "80" | "443" | number | null | undefined;
}

/** An event type to create, or the changes to one. */
export interface NewEventType {
  /** The type of the messages. Unique in the organization. */
  type: string;
  /** When the event happens, for customers. */
  description?: string | null | undefined;
  /** A `deprecated` event type is offered only to listeners that have it. Its messages are still published. */
  status?: "enabled" | "deprecated" | null | undefined;
  /** JSON Schema (2020-12) of the data. The schema and the example have at most 65,536 bytes together. null: none. */
  json_schema?: Readonly<Record<string, unknown>> | boolean | null | undefined;
  /** An example of the data, for customers, forms and tests. null: none. */
  example?: unknown;
}

/** A listener to create, or the changes to one. */
export interface NewListener {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** Where messages are sent: an http or https URL without credentials and fragment. Push mode only. */
  notify_url?: string | undefined;
  /**
   * Where the listener's liveness is checked: an http or https URL without credentials and fragment. null: nowhere.
   * Push mode only.
   */
  liveness_url?: string | null | undefined;
  /** Whether it is in use. */
  status?: "enabled" | "disabled" | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** Timeout of an attempt, response body included, in seconds. */
  timeout?: number | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
  /** Maximum number of requests in flight. */
  max_in_flight?: number | null | undefined;
  /** The maximum rate of requests to this listener, over all workers. */
  rate_limit?: RateLimitBody | null | undefined;
  /**
   * Types or patterns; a message must match at least one. `*` stands for one word, a final `>` for one or more. A
   * message without a type matches none. null: all messages.
   */
  types?: readonly string[] | null | undefined;
  /** Which messages it receives: conditions on their data, headers and key. null: all. */
  filter?: MessageFilter | null | undefined;
  /**
   * JMESPath expression over `id`, `type`, `key`, `headers`, `created_at` and `data`. Its JSON result is the body
   * that the listener receives. null: the data is sent as it is.
   */
  transform?: string | null | undefined;
  /** How a message is sent: `plain` (its data unchanged, the default), or as a CloudEvent in one of two modes. */
  format?: "plain" | "cloudevents_binary" | "cloudevents_structured" | null | undefined;
  /** `push` (the default): messages are sent to it. `pull`: its consumers fetch them. Fixed at creation. */
  mode?: "push" | "pull" | null | undefined;
  /** How long a pulled message stays leased, in seconds. Default: 30. Pull mode only. */
  lease_seconds?: number | null | undefined;
  /**
   * The `traceparent` that it receives: of the trace of the publisher (`propagate`, the default), of a new trace
   * with every attempt (`restart`), or none (`none`).
   */
  trace?: "propagate" | "restart" | "none" | null | undefined;
  /** A note about the purpose of the listener. It has no effect on deliveries. null: none. */
  description?: string | null | undefined;
  /**
   * Your name or id of the customer that the listener belongs to. Sessions of the portal see only the listeners of
   * their customer. In a customer's queue, it is always that customer. null: none.
   */
  customer?: string | null | undefined;
  /** How requests authenticate to the listener, in addition to their signatures. null: by signatures alone. */
  authentication?: AuthenticationBody | null | undefined;
}

/** A schedule to create, or the changes to one. */
export interface NewSchedule {
  /** The name, unique among the schedules of the queue, and the alias of its messages. */
  alias?: string | null | undefined;
  /**
   * When it runs: minute, hour, day of the month, month and day of the week, separated by spaces, or one of
   * @hourly, @daily, @weekly, @monthly, @yearly.
   */
  cron: string;
  /** IANA name of the time zone of `cron`. Default: UTC. */
  time_zone?: string | null | undefined;
  /**
   * The data of each message: a string, or any other JSON value, which is delivered as written. At most 65,536
   * bytes.
   */
  data?: unknown;
  /** Bytes, in base64, instead of `data`. A queue with a schema does not accept them. */
  data_base64?: string | null | undefined;
  /**
   * The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
   * `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and `application/octet-
   * stream` for `data_base64`.
   */
  content_type?: string | null | undefined;
  /** Whether it runs. Runs that it is disabled for are not caught up on. */
  status?: "enabled" | "disabled" | null | undefined;
  /**
   * Handling of runs that no worker was there for: `skip` (the default) drops them, `catch_up` publishes the newest
   * `catch_up_limit` of them.
   */
  missed_runs?: "skip" | "catch_up" | null | undefined;
  /** Maximum number of missed runs to catch up on. Default: 10. */
  catch_up_limit?: number | null | undefined;
  /** The earliest time of a run, in milliseconds since the epoch, at most ten years ahead. */
  starts_at?: number | null | undefined;
  /** The time before which it runs, in milliseconds since the epoch. */
  ends_at?: number | null | undefined;
  /** The type of the event: words separated by dots. */
  type?: string | null | undefined;
  /** The key of each message. In an ordered queue they are delivered one after the other. */
  key?: string | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
  /** How long after its run each message expires, in seconds: a listener that has not received it by then misses it. */
  expires_in?: number | null | undefined;
}

/** A source to create, or the changes to one. */
export interface NewSource {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** The service whose webhooks it receives; `hmac` for others. */
  provider: "stripe" | "github" | "shopify" | "standard-webhooks" | "hmac";
  /** Id or alias of the queue that it publishes to. */
  queue_id: string;
  /**
   * The provider's signing secrets, at most 5. Each of them is accepted, so that one can be replaced without
   * refusing requests. Responses never contain them.
   */
  secrets: readonly string[];
  /** `hmac`: the header with the signature. */
  header?: string | null | undefined;
  /** `hmac`: the hash function. Default: sha256. */
  algorithm?: "sha256" | "sha1" | "sha512" | null | undefined;
  /** `hmac`: the encoding of the signature. Default: hex. */
  encoding?: "hex" | "base64" | null | undefined;
  /** `hmac`: the text before the signature. */
  prefix?: string | null | undefined;
  /** `hmac`: the header with the Unix time in seconds. With it, the signature covers the time, a dot and the body. */
  timestamp_header?: string | null | undefined;
  /** `hmac`: the header with the id of the event. */
  id_header?: string | null | undefined;
}

/** A user to create, or the changes to one. */
export interface NewUser {
  /** The email address, unique in the organization, ignoring case. */
  email: string;
  /** The name to show. */
  display_name?: string | null | undefined;
  /** Permissions of the user in the dashboard. */
  role: "owner" | "admin" | "developer" | "viewer";
  /** Whether the user may sign in. Disabling ends all sessions. */
  status?: "enabled" | "disabled" | undefined;
  /** The password, in NFC characters. Never shown. */
  password?: string | undefined;
  /** Whether to create a new invitation. The previous one becomes invalid. */
  invite?: boolean | undefined;
}

/** A rule for a property: number values. */
export interface NumberRule {
  /** The type of the value. */
  type: Open<"number">;
  /** Whether it must be there and not null. */
  required?: boolean | undefined;
  /** A bound of the value. */
  min?: number | undefined;
  /** A bound of the value. */
  max?: number | undefined;
}

/** A rule for a property: object values. */
export interface ObjectRule {
  /** The type of the value. */
  type: Open<"object">;
  /** Whether it must be there and not null. */
  required?: boolean | undefined;
  /** The rules of its properties. */
  props: Readonly<Record<string, StringRule | NumberRule | ObjectRule | ArrayRule>>;
  /** Whether other properties are rejected. */
  strict?: boolean | undefined;
}

/** An organization. Limits that were not set are omitted. */
export interface Organization {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: `<creator's alias>.<id>`. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** Requests of a suspended organization get a 423. */
  state: Open<"active" | "suspended">;
  /** Whether listeners must be on domains of the organization, and receive nothing until these are verified. */
  require_verified_domains: boolean;
  /** Whether each message must have one of the organization's event types and fit its schema. Others get a 422. */
  require_known_types: boolean;
  /**
   * Requests per minute of each API key; all keys together can make four times as many. 0: unlimited. Set by the
   * operator.
   */
  rate_limit?: number | undefined;
  /** Quotas of the organization. Set by the operator. */
  quotas?: Quotas | undefined;
  /** How long messages are kept in queues without a retention of their own, in seconds. Set by the operator. */
  retention?: number | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: Retry | undefined;
}

/** An organization to create, or the changes to one. */
export interface OrganizationBody {
  /** The unique name, a reverse domain name. */
  alias?: string | null | undefined;
  /**
   * Requests per minute of each API key; all keys together can make four times as many. 0: unlimited. Set by the
   * operator.
   */
  rate_limit?: number | null | undefined;
  /** Quotas of the organization. Set by the operator. */
  quotas?: QuotasBody | null | undefined;
  /** How long messages are kept in queues without a retention of their own, in seconds. Set by the operator. */
  retention?: number | null | undefined;
  /** Whether listeners must be on domains of the organization, and receive nothing until these are verified. */
  require_verified_domains?: boolean | null | undefined;
  /** Whether each message must have one of the organization's event types and fit its schema. Others get a 422. */
  require_known_types?: boolean | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
}

/** A response. */
export interface OrganizationResponse {
  /** The organization. */
  organization: Organization;
}

/** A response. */
export interface PortalResponse {
  /** The settings. */
  portal: PortalSettings;
}

/** A session of a customer in the portal. */
export interface PortalSession {
  /** The id, assigned at creation. */
  id: string;
  /** Your name or id of the customer. The session sees only the listeners of this customer. */
  alias: string;
  /** Your name or id of the customer. The session sees only the listeners of this customer. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** Your name or id of the customer. The session sees only the listeners of this customer. */
  customer: string;
  /** `new` until its URL is opened. */
  state: Open<"new" | "open">;
  /** Ids of its queues. */
  queues: readonly string[];
  /** Ids of its topics. */
  topics: readonly string[];
  /**
   * Actions that the customer may take. `create`, `edit` and `replay` require that all queues belong to the
   * customer. Default: all except `limit`, which changes the rate limit; if a queue does not belong to the
   * customer, `disable`, `test` and `redeliver`.
   */
  may: readonly (Open<"create" | "edit" | "disable" | "delete" | "secrets" | "test" | "redeliver" | "replay" | "limit">)[];
  /** When it ends, in milliseconds since the epoch; until it is opened, when its URL does. */
  expires_at: number;
  /** The URL to open within a minute, once. Shown only at creation. */
  url?: string | undefined;
  /**
   * Sentences about queues that the session does not show, or about a customer without a queue. Shown only at
   * creation, and only if there are warnings.
   */
  warnings?: readonly string[] | undefined;
}

/** A session to create. */
export interface PortalSessionBody {
  /** Your name or id of the customer. The session sees only the listeners of this customer. */
  customer: string;
  /** Ids or aliases of queues. Without queues and topics: all queues of the customer, including later ones. */
  queues?: readonly string[] | undefined;
  /** Ids or aliases of topics: the queues that their channels lead into. */
  topics?: readonly string[] | undefined;
  /**
   * Actions that the customer may take. `create`, `edit` and `replay` require that all queues belong to the
   * customer. Default: all except `limit`, which changes the rate limit; if a queue does not belong to the
   * customer, `disable`, `test` and `redeliver`.
   */
  may?: readonly ("create" | "edit" | "disable" | "delete" | "secrets" | "test" | "redeliver" | "replay" | "limit")[] | undefined;
  /** How long it lasts, once it is opened, in seconds. */
  expires_in?: number | undefined;
  /** Where a link on every page leads back to. */
  return_url?: string | undefined;
  /** How it looks. */
  theme?: PortalThemeBody | undefined;
}

/** A response. */
export interface PortalSessionResponse {
  /** The session. */
  portal_session: PortalSession;
}

/** The settings of the portal. */
export interface PortalSettings {
  /** Origins whose pages may embed the portal: https, or http on loopback. By default none. */
  frame_ancestors: readonly string[];
}

/** The settings of the portal. */
export interface PortalSettingsBody {
  /** Origins whose pages may embed the portal: https, or http on loopback. By default none. */
  frame_ancestors: readonly string[];
}

/** How the portal looks. */
export interface PortalThemeBody {
  /** The colour of buttons and links. */
  accent?: string | undefined;
  /** Names of fonts of the system. */
  font?: string | undefined;
  /** Radius of corners, in pixels. */
  radius?: number | null | undefined;
  /** A data URL of a PNG, JPEG or WebP image in base64. */
  logo_url?: string | undefined;
  /** Light or dark; `auto` follows the browser. */
  scheme?: "light" | "dark" | "auto" | undefined;
}

/** A leased message. */
export interface PulledMessage {
  /** The id of the message. */
  id: string;
  /** When the message was stored, in milliseconds since the epoch. */
  stored_at: number;
  /** The data of the message, as text: the body that a request to a `notify_url` has. */
  data?: string | undefined;
  /** The data, if it was sent as `data_base64`. */
  data_base64?: string | undefined;
  /** The media type of the data: as published, or the default; empty for an event without data. */
  content_type: string;
  /** The number of this attempt, from 1. */
  attempt: number;
  /** The receipt handle of the lease. */
  receipt: string;
  /** When the lease ends, in milliseconds since the epoch. */
  leased_until: number;
  /**
   * The place of the message in its queue: higher than that of every message committed before it. Numbers may be
   * skipped.
   */
  sequence: number;
  /** The type of the event. */
  type?: string | undefined;
  /** The key of the message. */
  key?: string | undefined;
  /** The headers of the message, including attributes of an event (`ce-…`), `discue-type` and `discue-sequence`. */
  headers: Readonly<Record<string, string>>;
  /** The trace context of this attempt, if the message was published in a trace and the listener gets it. */
  traceparent?: string | undefined;
}

/** The messages that were leased. */
export interface PulledMessagesResponse {
  /** The leased messages, at most `max`. */
  messages: readonly PulledMessage[];
}

/** A queue. */
export interface Queue {
  /** The id, assigned at creation. Ids sort by time. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /**
   * Whether a listener receives messages with the same key one after the other. Messages without a key count as
   * having the same key. Fixed at creation.
   */
  ordered: boolean;
  /**
   * The effect of a missed message in an ordered queue. `pass`: the next message with its key is sent. `block`:
   * messages with its key wait until it is redelivered and acknowledged, or deleted. Fixed at creation.
   */
  on_missed: Open<"pass" | "block">;
  /** Listeners of the queue, oldest first, at most 100. */
  listeners: readonly Reference[];
  /** Statistics of its messages. */
  messages: QueueMessages;
  /**
   * How long messages are kept after all listeners have settled them, in seconds. Default: set by the organization
   * or the operator.
   */
  retention?: number | undefined;
  /** Maximum size of a message, in bytes. Default: set by the operator. */
  max_message_bytes?: number | undefined;
  /** Schema that messages must match, as a rule for each property. null removes it. */
  schema?: Readonly<Record<string, StringRule | NumberRule | ObjectRule | ArrayRule>> | undefined;
  /** Schema that messages must match, as JSON Schema (2020-12). null removes it. */
  json_schema?: Readonly<Record<string, unknown>> | boolean | undefined;
  /** The id of the schema. */
  schema_id?: string | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: Retry | undefined;
  /**
   * Your name or id of the customer that the queue and its listeners belong to. Sessions of the portal may create
   * and edit listeners, and replay, only in queues of their customer. null: none. Fixed at creation.
   */
  customer?: string | undefined;
}

/** A queue to create, or the changes to one. */
export interface QueueBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /**
   * How long messages are kept after all listeners have settled them, in seconds. Default: set by the organization
   * or the operator.
   */
  retention?: number | null | undefined;
  /** Maximum size of a message, in bytes. Default: set by the operator. */
  max_message_bytes?: number | null | undefined;
  /** Schema that messages must match, as a rule for each property. null removes it. */
  schema?: Readonly<Record<string, StringRule | NumberRule | ObjectRule | ArrayRule>> | null | undefined;
  /** Schema that messages must match, as JSON Schema (2020-12). null removes it. */
  json_schema?: Readonly<Record<string, unknown>> | boolean | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
  /**
   * Whether a listener receives messages with the same key one after the other. Messages without a key count as
   * having the same key. Fixed at creation.
   */
  ordered?: boolean | null | undefined;
  /**
   * The effect of a missed message in an ordered queue. `pass`: the next message with its key is sent. `block`:
   * messages with its key wait until it is redelivered and acknowledged, or deleted. Fixed at creation.
   */
  on_missed?: "pass" | "block" | null | undefined;
  /**
   * Your name or id of the customer that the queue and its listeners belong to. Sessions of the portal may create
   * and edit listeners, and replay, only in queues of their customer. null: none. Fixed at creation.
   */
  customer?: string | null | undefined;
}

/** Statistics of the messages of a queue. */
export interface QueueMessages {
  /** Number of messages published so far. */
  published_count: number;
  /** When the last message was published, or a delayed one became due, in milliseconds since the epoch; 0: never. */
  last_published_at: number;
}

/** A response. */
export interface QueueResponse {
  /** The queue. */
  queue: Queue;
}

/** The schema of a queue. */
export interface QueueSchemaResponse {
  /** The schema as it was sent. */
  schema: Readonly<Record<string, unknown>> | boolean;
  /** The SHA-256 of the schema's canonical JSON. */
  id: string;
  /** The id of the queue. */
  queue_id: string;
  /** The field of the queue that the schema was set with. */
  language: Open<"json_schema" | "rules">;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
}

/** A quota and its use. Without a quota, resources are counted up to 10,000. */
export interface Quota {
  /** The quota; null: none. */
  limit: number | null;
  /** How much of it is used. */
  used: number;
}

/** The quotas of an organization and their use. */
export interface QuotaUsage {
  /** Queues. */
  queues: Quota;
  /** Listeners of all queues. */
  listeners: Quota;
  /** Topics. */
  topics: Quota;
  /** Domains. */
  domains: Quota;
  /** API keys. */
  api_keys: Quota;
  /** Users. */
  users: Quota;
  /** Portal sessions. */
  portal_sessions: Quota;
  /** Resources created today (UTC). */
  creations_a_day: Quota;
  /** Messages published today (UTC). */
  messages_a_day: Quota;
  /** Size of all messages, schedules and stored responses, in bytes. */
  bytes_stored: Quota;
}

/** The quotas that were set for an organization. */
export interface Quotas {
  /** Maximum number of queues. */
  queues?: number | undefined;
  /** Maximum number of listeners. */
  listeners?: number | undefined;
  /** Maximum number of topics. */
  topics?: number | undefined;
  /** Maximum number of domains. */
  domains?: number | undefined;
  /** Maximum number of API keys. */
  api_keys?: number | undefined;
  /** Maximum number of users. */
  users?: number | undefined;
  /** Maximum number of portal sessions. */
  portal_sessions?: number | undefined;
  /** Maximum number of resources created per day (UTC). */
  creations_a_day?: number | undefined;
  /** Maximum number of messages published per day (UTC). */
  messages_a_day?: number | undefined;
  /** Maximum size of all messages, schedules and stored responses, in bytes. */
  bytes_stored?: number | undefined;
}

/** Quotas of an organization. null restores the setting. */
export interface QuotasBody {
  /** Maximum number of queues. */
  queues?: number | null | undefined;
  /** Maximum number of listeners. */
  listeners?: number | null | undefined;
  /** Maximum number of topics. */
  topics?: number | null | undefined;
  /** Maximum number of domains. */
  domains?: number | null | undefined;
  /** Maximum number of API keys. */
  api_keys?: number | null | undefined;
  /** Maximum number of users. */
  users?: number | null | undefined;
  /** Maximum number of portal sessions. */
  portal_sessions?: number | null | undefined;
  /** Maximum number of resources created per day (UTC). */
  creations_a_day?: number | null | undefined;
  /** Maximum number of messages published per day (UTC). */
  messages_a_day?: number | null | undefined;
  /** Maximum size of all messages, schedules and stored responses, in bytes. */
  bytes_stored?: number | null | undefined;
}

/** The maximum rate of requests to a listener. */
export interface RateLimit {
  /** Requests per second. */
  per_second: number;
  /** Requests that may be sent at once. */
  burst: number;
}

/** The maximum rate of requests to a listener. */
export interface RateLimitBody {
  /** Requests per second. */
  per_second: number;
  /** Requests that may be sent at once. Default: as many as in one second. */
  burst: number | null;
}

/** The rate limit of an API key. */
export interface RateLimitStatus {
  /** Requests per minute; 2147483647: unlimited. */
  limit: number;
  /** Requests left in this window. */
  remaining: number;
  /** When the window ends, in milliseconds since the epoch. */
  reset_at: number;
}

/** The result for one receipt. */
export interface Receipt {
  /** The receipt handle of the lease. */
  receipt: string;
  /**
   * The result. `expired`: the lease had ended, and the message is due again or leased to another consumer.
   * `settled`: the message was settled already.
   */
  state: Open<"acknowledged" | "rejected" | "released" | "extended" | "expired" | "settled">;
}

/** The results of an acknowledgement. */
export interface ReceiptsResponse {
  /** The result for each receipt, in the order of the request. */
  receipts: readonly Receipt[];
}

/** A redelivery of missed messages. */
export interface Redelivery {
  /** The id, assigned at creation. */
  id: string;
  /** The id. */
  alias: string;
  /** The id. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id: string;
  /** The id of the listener. */
  listener_id: string;
  /** Numbers of deliveries. */
  counts: RedeliveryCounts;
  /** When it was done, in milliseconds since the epoch; 0: not yet. */
  ended_at: number;
  /** Maximum number of messages per second. */
  pace?: number | undefined;
  /** The progress. `stopped`: the listener did not acknowledge a message of the trial. */
  state: Open<"waiting" | "running" | "stopped" | "done">;
  /**
   * Number of messages to try first: the oldest are sent one after the other, with one attempt each. The others
   * become due once all of these are acknowledged. The first failure stops the redelivery.
   */
  trial?: number | undefined;
  /** Number of trial messages that were acknowledged; only with `trial`. */
  tried?: number | undefined;
  /** Why it was stopped; only if `state` is `stopped`. */
  stopped_by?: StoppedBy | undefined;
}

/** A redelivery to start. Exactly one of `messages`, `filter`, `group` and `all` selects the messages. */
export interface RedeliveryBody {
  /** The ids of messages that the listener has missed or acknowledged. */
  messages?: readonly string[] | null | undefined;
  /** Which missed messages; an empty filter selects all. */
  filter?: MissedFilterBody | null | undefined;
  /** The id of a group of the listener's missed messages. */
  group?: string | null | undefined;
  /** Selects all missed messages. */
  all?: boolean | null | undefined;
  /**
   * Number of messages to try first: the oldest are sent one after the other, with one attempt each. The others
   * become due once all of these are acknowledged. The first failure stops the redelivery.
   */
  trial?: number | null | undefined;
  /** Maximum number of messages per second. */
  pace?: number | null | undefined;
  /** Whether to return only what would be selected. */
  dry_run?: boolean | null | undefined;
}

/** Numbers of deliveries. */
export interface RedeliveryCounts {
  /** Number selected. Single deliveries outside of ranges are counted up to 100,000. */
  selected: number;
  /** Deliveries that are due again, or were. */
  redelivered: number;
  /** Deliveries of messages that were deleted before. */
  gone: number;
}

/** A response. */
export interface RedeliveryResponse {
  /** The redelivery. */
  redelivery: Redelivery;
}

/** A related resource. */
export interface Reference {
  /** The id. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
}

/** A refused request to a source, without its body. */
export interface Refusal {
  /** The id of the refused request. */
  id: string;
  /** Why it was refused: the `code` of the response. */
  reason: Open<"signature_missing" | "signature_wrong" | "signature_stale" | "unknown_type" | "schema_violation">;
  /** The reason in a sentence. */
  detail: string;
  /** Its headers, up to 2,048 characters, without credentials. */
  headers: Readonly<Record<string, string>>;
  /** When it arrived, in milliseconds since the epoch. */
  created_at: number;
}

/** A replay of a part of the queue. */
export interface Replay {
  /** The id, assigned at creation. */
  id: string;
  /** The id. */
  alias: string;
  /** The id. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id: string;
  /** The id of the listener. */
  listener_id: string;
  /** Numbers of messages. */
  counts: ReplayCounts;
  /** When it was done, in milliseconds since the epoch; 0: not yet. */
  ended_at: number;
  /** Maximum number of messages per second. */
  pace?: number | undefined;
  /** The progress. */
  state: Open<"waiting" | "running" | "done">;
  /** Which messages. */
  filter?: Readonly<Record<string, unknown>> | undefined;
}

/** A replay to start. Exactly one of `from_at` and `from_message` says where it begins. */
export interface ReplayBody {
  /** Start with messages stored at this time or later, in milliseconds since the epoch. */
  from_at?: number | null | undefined;
  /** Start with this message, by its id. */
  from_message?: string | null | undefined;
  /** End with messages stored at this time or earlier, in milliseconds since the epoch. Default: now. */
  until_at?: number | null | undefined;
  /** End with this message, by its id. */
  until_message?: string | null | undefined;
  /** Maximum number of messages per second. */
  pace?: number | null | undefined;
  /** Which messages: a filter like a listener's. null: all. */
  filter?: MessageFilter | null | undefined;
  /** Whether to return only what would be selected. */
  dry_run?: boolean | null | undefined;
}

/** Numbers of messages. */
export interface ReplayCounts {
  /**
   * Messages from start to end, including those that a filter rejects. For more than 1,000 positions of the log:
   * the number of positions.
   */
  selected: number;
  /** Messages acknowledged. */
  delivered: number;
  /** Messages out of attempts. */
  failed: number;
  /** Messages that expired, or were too old. */
  expired: number;
  /** Messages that the filter of the listener or the replay rejects. */
  filtered: number;
  /** Messages that wait for another attempt. */
  retrying: number;
  /** Messages that may still be sent, at most. */
  remaining: number;
}

/** A response. */
export interface ReplayResponse {
  /** The replay. */
  replay: Replay;
}

/** A request to a listener, without the message's data. */
export interface Request {
  /** The headers. The signature, and values that were not chosen by the service, are `[hidden]`. */
  headers: readonly Header[];
}

/** The response of a listener. */
export interface Response {
  /** The headers, with lower-case names. Values that look like secrets are `[hidden]`. */
  headers: readonly Header[];
  /** The first 16 KiB of the body. Bytes that are not UTF-8 are replaced. */
  body: string;
  /** Number of bytes of the body that were read. */
  body_bytes: number;
}

/** The fields of a retry policy that were set. */
export interface Retry {
  /** The delays between attempts, in seconds. */
  schedule?: readonly number[] | undefined;
  /** How much longer a delay may be at random, as a fraction of it. */
  jitter?: number | undefined;
  /** Number of attempts. */
  attempts?: number | undefined;
  /** Responses with one of these statuses, or classes of statuses, are not retried. */
  final_statuses?: readonly (number | Open<"3xx" | "4xx" | "5xx">)[] | undefined;
}

/** When failed deliveries are retried. null or an omitted field: the policy of the queue or the service. */
export interface RetryBody {
  /** The delays between attempts, in seconds. */
  schedule: readonly number[] | null;
  /** How much longer a delay may be at random, as a fraction of it. */
  jitter: number | null;
  /** Number of attempts. Shortens the schedule, or repeats its last delay. */
  attempts: number | null;
  /** Responses with one of these statuses, or classes of statuses, are not retried. */
  final_statuses: readonly (number | "3xx" | "4xx" | "5xx")[] | null;
}

/** A complete retry policy. */
export interface RetryPolicy {
  /** The delays between attempts, in seconds. */
  schedule: readonly number[];
  /** How much longer a delay may be at random, as a fraction of it. */
  jitter: number;
  /** Number of attempts. */
  attempts: number;
  /** Responses with one of these statuses, or classes of statuses, are not retried. */
  final_statuses: readonly string[];
}

/** A run of a schedule: either `message_id` or `reason` is set. */
export interface Run {
  /** When it was scheduled, in milliseconds since the epoch. */
  scheduled_at: number;
  /** When it ran, in milliseconds since the epoch. */
  ran_at: number;
  /** The outcome. */
  state: Open<"published" | "skipped">;
  /** The id of its message. */
  message_id?: string | undefined;
  /** Why it published nothing. */
  reason?: Open<"late" | "schema" | "too_large" | "quota" | "suspended" | "time_zone"> | undefined;
}

/** A schedule. Lists omit `data`; options that were not set are omitted. */
export interface Schedule {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The id of the queue. */
  queue_id: string;
  /** Whether it runs. */
  status: Open<"enabled" | "disabled">;
  /**
   * When it runs: minute, hour, day of the month, month and day of the week, separated by spaces, or one of
   * @hourly, @daily, @weekly, @monthly, @yearly.
   */
  cron: string;
  /** IANA name of the time zone of `cron`. Default: UTC. */
  time_zone: string;
  /**
   * Handling of runs that no worker was there for: `skip` (the default) drops them, `catch_up` publishes the newest
   * `catch_up_limit` of them.
   */
  missed_runs: Open<"skip" | "catch_up">;
  /** Maximum number of missed runs to catch up on. Default: 10. */
  catch_up_limit: number;
  /** The next five runs, in milliseconds since the epoch; empty if it is disabled or has ended. */
  next_runs: readonly number[];
  /** The last run. */
  last_run?: Run | undefined;
  /** The earliest time of a run, in milliseconds since the epoch, at most ten years ahead. */
  starts_at?: number | undefined;
  /** The time before which it runs, in milliseconds since the epoch. */
  ends_at?: number | undefined;
  /** The data, in the form in which it was sent. */
  data?: unknown;
  /** The data, if it was sent as `data_base64`. */
  data_base64?: string | undefined;
  /** The media type of the data, if it was published with one. */
  content_type?: string | undefined;
  /** The type of the event. */
  type?: string | undefined;
  /** The key of each message. */
  key?: string | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: Retry | undefined;
  /** How long after its run each message expires, in seconds: a listener that has not received it by then misses it. */
  expires_in?: number | undefined;
}

/** A schedule to create, or the changes to one. */
export interface ScheduleBody {
  /** The name, unique among the schedules of the queue, and the alias of its messages. */
  alias?: string | null | undefined;
  /**
   * When it runs: minute, hour, day of the month, month and day of the week, separated by spaces, or one of
   * @hourly, @daily, @weekly, @monthly, @yearly.
   */
  cron?: string | undefined;
  /** IANA name of the time zone of `cron`. Default: UTC. */
  time_zone?: string | null | undefined;
  /**
   * The data of each message: a string, or any other JSON value, which is delivered as written. At most 65,536
   * bytes.
   */
  data?: unknown;
  /** Bytes, in base64, instead of `data`. A queue with a schema does not accept them. */
  data_base64?: string | null | undefined;
  /**
   * The media type of the data. With a media type of JSON, a string is delivered as a JSON string. Default:
   * `application/json` if the data is JSON, `text/plain; charset=utf-8` for other strings, and `application/octet-
   * stream` for `data_base64`.
   */
  content_type?: string | null | undefined;
  /** Whether it runs. Runs that it is disabled for are not caught up on. */
  status?: "enabled" | "disabled" | null | undefined;
  /**
   * Handling of runs that no worker was there for: `skip` (the default) drops them, `catch_up` publishes the newest
   * `catch_up_limit` of them.
   */
  missed_runs?: "skip" | "catch_up" | null | undefined;
  /** Maximum number of missed runs to catch up on. Default: 10. */
  catch_up_limit?: number | null | undefined;
  /** The earliest time of a run, in milliseconds since the epoch, at most ten years ahead. */
  starts_at?: number | null | undefined;
  /** The time before which it runs, in milliseconds since the epoch. */
  ends_at?: number | null | undefined;
  /** The type of the event: words separated by dots. */
  type?: string | null | undefined;
  /** The key of each message. In an ordered queue they are delivered one after the other. */
  key?: string | null | undefined;
  /** Additional headers of each request: at most 32, with 4,096 characters in all. */
  headers?: Readonly<Record<string, string>> | null | undefined;
  /** Retry policy. Omitted fields use the default. */
  retry?: RetryBody | readonly number[] | null | undefined;
  /** How long after its run each message expires, in seconds: a listener that has not received it by then misses it. */
  expires_in?: number | null | undefined;
}

/** A response. */
export interface ScheduleResponse {
  /** The schedule. */
  schedule: Schedule;
}

/** A signing secret. */
export interface Secret {
  /** The id, assigned at creation. */
  id: string;
  /** How it signs: `hmac` (signatures `v1`) or `ed25519` (signatures `v1a`). */
  type: Open<"hmac" | "ed25519">;
  /** The first 16 hexadecimal digits of the SHA-256 of the secret's text, or of the public key's. */
  fingerprint: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** When it expires, in milliseconds since the epoch; 0: never. */
  expires_at: number;
  /** `ed25519`: the public key that verifies its signatures. */
  public_key?: string | undefined;
  /** `hmac`: the secret itself. Shown at creation only. */
  secret?: string | undefined;
}

/** A signing secret to create. */
export interface SecretBody {
  /** How it signs: `hmac` (a shared secret, the default) or `ed25519` (a key pair). */
  type?: "hmac" | "ed25519" | null | undefined;
  /**
   * Your own secret: `whsec_` and 24 to 64 bytes in base64, or `whsk_` and an Ed25519 private key in base64 (32
   * bytes, or 64 with the public key). Default: generated by the service.
   */
  secret?: string | null | undefined;
  /** When the older secrets of this type expire, in seconds from now; 0: at once. Default: one day. */
  expire_previous_in?: number | null | undefined;
}

/** A response. */
export interface SecretResponse {
  /** The signing secret. */
  secret: Secret;
}

/** A source. */
export interface Source {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The service whose webhooks it receives; `hmac` for others. */
  provider: Open<"stripe" | "github" | "shopify" | "standard-webhooks" | "hmac">;
  /** The id of the queue that it publishes to. */
  queue_id: string;
  /** The URL for the provider's settings. */
  url: string;
  /** The number of requests that it has refused. */
  refused: number;
  /** When it last refused a request, in milliseconds since the epoch; 0: never. */
  refused_at: number;
  /** `hmac`: the header with the signature. */
  header?: string | undefined;
  /** `hmac`: the hash function. Default: sha256. */
  algorithm?: Open<"sha256" | "sha1" | "sha512"> | undefined;
  /** `hmac`: the encoding of the signature. Default: hex. */
  encoding?: Open<"hex" | "base64"> | undefined;
  /** `hmac`: the text before the signature. */
  prefix?: string | undefined;
  /** `hmac`: the header with the Unix time in seconds. With it, the signature covers the time, a dot and the body. */
  timestamp_header?: string | undefined;
  /** `hmac`: the header with the id of the event. */
  id_header?: string | undefined;
}

/** A source to create, or the changes to one. */
export interface SourceBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
  /** The service whose webhooks it receives; `hmac` for others. */
  provider?: "stripe" | "github" | "shopify" | "standard-webhooks" | "hmac" | undefined;
  /** Id or alias of the queue that it publishes to. */
  queue_id?: string | undefined;
  /**
   * The provider's signing secrets, at most 5. Each of them is accepted, so that one can be replaced without
   * refusing requests. Responses never contain them.
   */
  secrets?: readonly string[] | undefined;
  /** `hmac`: the header with the signature. */
  header?: string | null | undefined;
  /** `hmac`: the hash function. Default: sha256. */
  algorithm?: "sha256" | "sha1" | "sha512" | null | undefined;
  /** `hmac`: the encoding of the signature. Default: hex. */
  encoding?: "hex" | "base64" | null | undefined;
  /** `hmac`: the text before the signature. */
  prefix?: string | null | undefined;
  /** `hmac`: the header with the Unix time in seconds. With it, the signature covers the time, a dot and the body. */
  timestamp_header?: string | null | undefined;
  /** `hmac`: the header with the id of the event. */
  id_header?: string | null | undefined;
}

/** A response. */
export interface SourceResponse {
  /** The source. */
  source: Source;
}

/** A response. */
export interface StatisticsResponse {
  /** Numbers of events by period. */
  aggregated_api_usage_events: EventWindows;
}

/** The failure that stopped a redelivery. */
export interface StoppedBy {
  /** Why the message is missed again. */
  reason: Open<"attempts_used_up" | "expired" | "final_status" | "no_retry" | "too_old" | "transform">;
  /** HTTP status of the response; 0: none. */
  status: number;
  /** The beginning of the response, or why there was none. The listener chose this text: escape it in pages. */
  text: string;
}

/** A rule for a property: string values. */
export interface StringRule {
  /** The type of the value. */
  type: Open<"string">;
  /** Whether it must be there and not null. */
  required?: boolean | undefined;
  /** A regular expression that must match somewhere in the value. */
  pattern?: string | undefined;
  /** The values allowed. */
  enum?: readonly string[] | undefined;
  /** A number of characters. */
  min?: number | undefined;
  /** A number of characters. */
  max?: number | undefined;
}

/** How long each stage of an attempt took. Stages that were not reached or not needed are omitted. */
export interface Timings {
  /** DNS lookup, in milliseconds. */
  resolve_ms?: number | undefined;
  /** TCP connect, in milliseconds. */
  connect_ms?: number | undefined;
  /** TLS handshake, in milliseconds. */
  tls_ms?: number | undefined;
  /** From sending the request to the first byte of the response, in milliseconds. */
  first_byte_ms?: number | undefined;
  /** Everything together, in milliseconds. */
  total_ms: number;
}

/** A topic. */
export interface Topic {
  /** The id, assigned at creation. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** Channels of the topic, oldest first. */
  channels: readonly Reference[];
}

/** A topic to create, or the changes to one. */
export interface TopicBody {
  /** The unique name. Default: the id. */
  alias?: string | null | undefined;
}

/** A message that was published to a topic. */
export interface TopicMessage {
  /** The id, the same in all queues. */
  id: string;
  /** The unique name. Default: the id. */
  alias: string;
  /** A synonym of `alias`. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The ids of the queues that the message was published to. */
  queues: readonly string[];
  /** When it is delivered, if later than its creation, in milliseconds since the epoch. */
  deliver_at?: number | undefined;
}

/** The message that was published. */
export interface TopicMessageResponse {
  /** The message. */
  message: TopicMessage;
}

/** The messages that were published. */
export interface TopicMessagesResponse {
  /** The messages, in the order of the request. */
  messages: readonly TopicMessage[];
}

/** A response. */
export interface TopicResponse {
  /** The topic. */
  topic: Topic;
}

/** The results of a transform test. */
export interface TransformTest {
  /** Number of messages tried, beginning with the newest. */
  tested: number;
  /** The messages for which the transform failed, at most 100. */
  failed: readonly FailedTransform[];
  /** The first three messages that have a body. */
  succeeded: readonly Transformed[];
}

/** A transform to try. */
export interface TransformTestBody {
  /** The expression. Default: that of the listener. */
  transform?: string | null | undefined;
  /** Maximum number of messages. Default: 100. */
  limit?: number | null | undefined;
}

/** The results of a transform test. */
export interface TransformTestResponse {
  /** The results. */
  transform_test: TransformTest;
}

/** A message with the body that would be sent. */
export interface Transformed {
  /** The id of the message. */
  message_id: string;
  /** The type of the event. */
  type?: string | undefined;
  /** The body that would be sent. */
  body: unknown;
}

/** A user. */
export interface User {
  /** The id, assigned at creation. */
  id: string;
  /** The email address. */
  alias: string;
  /** The email address. */
  name: string;
  /** When it was created, in milliseconds since the epoch. */
  created_at: number;
  /** When it was last changed, in milliseconds since the epoch. */
  updated_at: number;
  /** The email address, unique in the organization, ignoring case. */
  email: string;
  /** The name to show. */
  display_name: string;
  /** Permissions of the user in the dashboard. */
  role: Open<"owner" | "admin" | "developer" | "viewer">;
  /** Whether the user may sign in. Disabling ends all sessions. */
  status: Open<"enabled" | "disabled">;
  /** `invited` until the user can sign in. */
  state: Open<"invited" | "active">;
}

/** A user to create, or the changes to one. */
export interface UserBody {
  /** The email address, unique in the organization, ignoring case. */
  email?: string | undefined;
  /** The name to show. */
  display_name?: string | null | undefined;
  /** Permissions of the user in the dashboard. */
  role?: "owner" | "admin" | "developer" | "viewer" | undefined;
  /** Whether the user may sign in. Disabling ends all sessions. */
  status?: "enabled" | "disabled" | undefined;
  /** The password, in NFC characters. Never shown. */
  password?: string | undefined;
  /** Whether to create a new invitation. The previous one becomes invalid. */
  invite?: boolean | undefined;
}

/** A response. */
export interface UserResponse {
  /** The user. */
  user: User;
  /** The invitation. Shown only when it is created. */
  invitation?: Invitation | undefined;
}

/** The result of the last check of a domain. */
export interface Verification {
  /** Whether the domain is verified. */
  verified: boolean;
  /** When it was verified, in milliseconds since the epoch; 0: it is not. */
  verified_at: number;
  /** When it was last checked, in milliseconds since the epoch; 0: never. */
  checked_at: number;
  /** Why the last check failed; empty if it did not. */
  last_error: string;
}

/** The catalogue, as an OpenAPI document. */
export interface WebhooksDocument {
  /** The version of OpenAPI. */
  openapi: string;
  /** The catalogue. */
  info: Readonly<Record<string, unknown>>;
  /** The request of each event type. */
  webhooks: Readonly<Record<string, unknown>>;
}

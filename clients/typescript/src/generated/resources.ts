/**
 * Operations by resource.
 *
 * Written by `make docs` from `docs/openapi.json`. Do not edit.
 */

import { Pages } from "../pages.js";
import { messageOf, type PublishOptions } from "../publishing.js";
import { pathOf } from "../requester.js";
import type { RequestOptions, Requester } from "../requester.js";
import type {
  AcknowledgementsBody,
  ApiKey,
  ApiKeyBody,
  ApiKeyResponse,
  Attempt,
  AttemptResponse,
  BatchBody,
  Channel,
  ChannelBody,
  ChannelResponse,
  CreatedOrganizationResponse,
  CreatedRedeliveryResponse,
  CreatedReplayResponse,
  Delivery,
  DeliveryTest,
  DeliveryTestBody,
  DeliveryTestResponse,
  Domain,
  DomainBody,
  DomainResponse,
  Erasure,
  ErasureBody,
  ErasureResponse,
  Event,
  EventType,
  EventTypeBody,
  EventTypeResponse,
  EventWindows,
  FilterTest,
  FilterTestBody,
  FilterTestResponse,
  HealthResponse,
  InvitationBody,
  Limits,
  LimitsResponse,
  Listener,
  ListenerBody,
  ListenerResponse,
  Message,
  MessageBody,
  MessageChangeBody,
  MessageResponse,
  MessagesResponse,
  MissedGroup,
  MissedMessage,
  NewChannel,
  NewDomain,
  NewEventType,
  NewListener,
  NewSchedule,
  NewSource,
  NewUser,
  Open,
  Organization,
  OrganizationBody,
  OrganizationResponse,
  PortalResponse,
  PortalSession,
  PortalSessionBody,
  PortalSessionResponse,
  PortalSettings,
  PortalSettingsBody,
  PulledMessage,
  PulledMessagesResponse,
  Queue,
  QueueBody,
  QueueResponse,
  QueueSchemaResponse,
  Receipt,
  ReceiptsResponse,
  Redelivery,
  RedeliveryBody,
  RedeliveryResponse,
  Refusal,
  Replay,
  ReplayBody,
  ReplayResponse,
  Schedule,
  ScheduleBody,
  ScheduleResponse,
  Secret,
  SecretBody,
  SecretResponse,
  Source,
  SourceBody,
  SourceResponse,
  StatisticsResponse,
  Topic,
  TopicBody,
  TopicMessage,
  TopicMessageResponse,
  TopicMessagesResponse,
  TopicResponse,
  TransformTest,
  TransformTestBody,
  TransformTestResponse,
  User,
  UserBody,
  UserResponse,
  WebhooksDocument,
} from "./models.js";

/** Operations of `client.apiKeys`. */
export class ApiKeys {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List API keys. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<ApiKey> {
    return new Pages(this.#requester, { path: pathOf("api_keys"), items: "api_keys", query, options });
  }

  /** Create an API key. Only this response shows the complete key. */
  async create(fields: ApiKeyBody = {}, options: RequestOptions = {}): Promise<ApiKey> {
    const found = await this.#requester.object<ApiKeyResponse>("POST", pathOf("api_keys"), "api_key", { body: fields }, options);
    return found.api_key;
  }

  /** Get an API key. */
  async get(apiKey: string, options: RequestOptions = {}): Promise<ApiKey> {
    const found = await this.#requester.object<ApiKeyResponse>("GET", pathOf("api_keys", apiKey), "api_key", {}, options);
    return found.api_key;
  }

  /** Change an API key. `scopes` replaces all scopes of the key. */
  async update(apiKey: string, fields: ApiKeyBody = {}, options: RequestOptions = {}): Promise<ApiKey> {
    const found = await this.#requester.object<ApiKeyResponse>("PUT", pathOf("api_keys", apiKey), "api_key", { body: fields }, options);
    return found.api_key;
  }

  /** Delete an API key. */
  async delete(apiKey: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("api_keys", apiKey), {}, options);
  }
}

/** Operations of `client.channels`. */
export class Channels {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the channels of a topic. */
  list(
    topic: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Channel> {
    return new Pages(this.#requester, { path: pathOf("topics", topic, "channels"), items: "channels", query, options });
  }

  /** Create a channel. Messages published to the topic from now on are copied to the queue if they pass it. */
  async create(topic: string, fields: NewChannel, options: RequestOptions = {}): Promise<Channel> {
    const found = await this.#requester.object<ChannelResponse>("POST", pathOf("topics", topic, "channels"), "channel", { body: fields }, options);
    return found.channel;
  }

  /** Get a channel. */
  async get(topic: string, channel: string, options: RequestOptions = {}): Promise<Channel> {
    const found = await this.#requester.object<ChannelResponse>("GET", pathOf("topics", topic, "channels", channel), "channel", {}, options);
    return found.channel;
  }

  /** Change a channel. Its queue cannot change. */
  async update(
    topic: string,
    channel: string,
    fields: ChannelBody = {},
    options: RequestOptions = {},
  ): Promise<Channel> {
    const found = await this.#requester.object<ChannelResponse>("PUT", pathOf("topics", topic, "channels", channel), "channel", { body: fields }, options);
    return found.channel;
  }

  /** Delete a channel. */
  async delete(topic: string, channel: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("topics", topic, "channels", channel), {}, options);
  }
}

/** Operations of `client.domains`. */
export class Domains {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List domains. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Domain> {
    return new Pages(this.#requester, { path: pathOf("domains"), items: "domains", query, options });
  }

  /** Create a domain. The response names the file that verifies the domain, and its content. */
  async create(fields: NewDomain, options: RequestOptions = {}): Promise<Domain> {
    const found = await this.#requester.object<DomainResponse>("POST", pathOf("domains"), "domain", { body: fields }, options);
    return found.domain;
  }

  /** Get a domain. */
  async get(domain: string, options: RequestOptions = {}): Promise<Domain> {
    const found = await this.#requester.object<DomainResponse>("GET", pathOf("domains", domain), "domain", {}, options);
    return found.domain;
  }

  /** Change a domain. Its hostname and port cannot change. Renews an expired challenge. */
  async update(domain: string, fields: DomainBody = {}, options: RequestOptions = {}): Promise<Domain> {
    const found = await this.#requester.object<DomainResponse>("PUT", pathOf("domains", domain), "domain", { body: fields }, options);
    return found.domain;
  }

  /** Delete a domain. Listeners on it are no longer on a verified domain. */
  async delete(domain: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("domains", domain), {}, options);
  }

  /** Verify a domain now. Checks the file, and returns the domain with the result. */
  async verify(domain: string, options: RequestOptions = {}): Promise<Domain> {
    const found = await this.#requester.object<DomainResponse>("PUT", pathOf("domains", domain, "verification"), "domain", {}, options);
    return found.domain;
  }
}

/** Operations of `client.erasures`. */
export class Erasures {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the erasures of a queue. */
  list(
    queue: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Erasure> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "erasures"), items: "erasures", query, options });
  }

  /**
   * Erase the messages with a key. After the response, none of them can be read, redelivered or replayed. Messages
   * that are published during the erasure are kept.
   */
  async create(queue: string, fields: ErasureBody, options: RequestOptions = {}): Promise<Erasure> {
    const found = await this.#requester.object<ErasureResponse>("POST", pathOf("queues", queue, "erasures"), "erasure", { body: fields }, options);
    return found.erasure;
  }

  /** Get an erasure. */
  async get(queue: string, erasure: string, options: RequestOptions = {}): Promise<Erasure> {
    const found = await this.#requester.object<ErasureResponse>("GET", pathOf("queues", queue, "erasures", erasure), "erasure", {}, options);
    return found.erasure;
  }
}

/** Operations of `client.eventTypes`. */
export class EventTypes {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List event types. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<EventType> {
    return new Pages(this.#requester, { path: pathOf("event_types"), items: "event_types", query, options });
  }

  /** Create an event type. */
  async create(fields: NewEventType, options: RequestOptions = {}): Promise<EventType> {
    const found = await this.#requester.object<EventTypeResponse>("POST", pathOf("event_types"), "event_type", { body: fields }, options);
    return found.event_type;
  }

  /** Get an event type. */
  async get(eventType: string, options: RequestOptions = {}): Promise<EventType> {
    const found = await this.#requester.object<EventTypeResponse>("GET", pathOf("event_types", eventType), "event_type", {}, options);
    return found.event_type;
  }

  /** Change an event type. */
  async update(eventType: string, fields: EventTypeBody = {}, options: RequestOptions = {}): Promise<EventType> {
    const found = await this.#requester.object<EventTypeResponse>("PUT", pathOf("event_types", eventType), "event_type", { body: fields }, options);
    return found.event_type;
  }

  /** Delete an event type. Messages and listeners keep their types. */
  async delete(eventType: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("event_types", eventType), {}, options);
  }

  /** Get the catalogue as OpenAPI. Returns `webhooks` of OpenAPI 3.1, for your customers' code generators. */
  async openapi(options: RequestOptions = {}): Promise<WebhooksDocument> {
    return await this.#requester.object<WebhooksDocument>("GET", pathOf("event_types.openapi.json"), "openapi", {}, options);
  }
}

/** Operations of `client.events`. */
export class Events {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /**
   * List usage events. Events, newest first. `_links.next` leads to later events. It goes back a few seconds,
   * because events can be stored slightly later than their ids say, so some events may be repeated. With `page`,
   * `per_page`, `after` or `before`, it pages like other lists: `_links.next` leads to earlier events.
   */
  list(
    query: { events?: "all" | "api_keys" | "listeners" | "messages" | "queues" | undefined; created_after?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Event> {
    return new Pages(this.#requester, { path: pathOf("events"), items: "events", query, options });
  }
}

/** Operations of `client.listeners`. */
export class Listeners {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the listeners of a queue. */
  list(
    queue?: string | null,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; customer?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Listener> {
    return new Pages(this.#requester, { path: queue == null ? pathOf("listeners") : pathOf("queues", queue, "listeners"), items: "listeners", query, options });
  }

  /**
   * Create a listener. It receives messages that are published from now on. Only this response shows its signing
   * secret. In pull mode it has neither a secret nor URLs.
   */
  async create(queue: string, fields: NewListener = {}, options: RequestOptions = {}): Promise<Listener> {
    const found = await this.#requester.object<ListenerResponse>("POST", pathOf("queues", queue, "listeners"), "listener", { body: fields }, options);
    return found.listener;
  }

  /** Get a listener. */
  async get(queue: string, listener: string, options: RequestOptions = {}): Promise<Listener> {
    const found = await this.#requester.object<ListenerResponse>("GET", pathOf("queues", queue, "listeners", listener), "listener", {}, options);
    return found.listener;
  }

  /** Change a listener. The messages of a disabled listener wait. */
  async update(
    queue: string,
    listener: string,
    fields: ListenerBody = {},
    options: RequestOptions = {},
  ): Promise<Listener> {
    const found = await this.#requester.object<ListenerResponse>("PUT", pathOf("queues", queue, "listeners", listener), "listener", { body: fields }, options);
    return found.listener;
  }

  /** Delete a listener. */
  async delete(queue: string, listener: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "listeners", listener), {}, options);
  }

  /** Try a filter. Stores and sends nothing. A stored message requires a key that may read it. */
  async testFilter(
    queue: string,
    listener: string,
    fields: FilterTestBody = {},
    options: RequestOptions = {},
  ): Promise<FilterTest> {
    const found = await this.#requester.object<FilterTestResponse>("POST", pathOf("queues", queue, "listeners", listener, "filter-tests"), "filter_test", { body: fields }, options);
    return found.filter_test;
  }

  /** Try a transform. Applies it to the newest messages of the queue, for up to a second. Stores and sends nothing. */
  async testTransform(
    queue: string,
    listener: string,
    fields: TransformTestBody = {},
    options: RequestOptions = {},
  ): Promise<TransformTest> {
    const found = await this.#requester.object<TransformTestResponse>("POST", pathOf("queues", queue, "listeners", listener, "transform-tests"), "transform_test", { body: fields }, options);
    return found.transform_test;
  }

  /**
   * Test a listener. Sends one request to its `notify_url`, signed like a delivery, with `discue-test: true`. It is
   * not stored, counted or retried.
   */
  async test(
    queue: string,
    listener: string,
    fields: DeliveryTestBody = {},
    options: RequestOptions = {},
  ): Promise<DeliveryTest> {
    const found = await this.#requester.object<DeliveryTestResponse>("POST", pathOf("queues", queue, "listeners", listener, "tests"), "test", { body: fields, repeatable: false }, options);
    return found.test;
  }

  /**
   * Pull messages. For listeners in pull mode. Each message is leased: no other consumer receives it until it is
   * released or its lease ends. With `Accept: text/event-stream`, messages are streamed as events until the client
   * disconnects or its key expires.
   */
  async pull(
    queue: string,
    listener: string,
    query: { max?: number | undefined; wait?: number | undefined } = {},
    options: RequestOptions = {},
  ): Promise<readonly PulledMessage[]> {
    const found = await this.#requester.object<PulledMessagesResponse>("GET", pathOf("queues", queue, "listeners", listener, "messages"), "messages", { query, extraTime: query.wait ?? 0 }, options);
    return found.messages;
  }

  /** Acknowledge pulled messages. Each receipt is handled on its own, and has its own result. */
  async settle(
    queue: string,
    listener: string,
    fields: AcknowledgementsBody = {},
    options: RequestOptions = {},
  ): Promise<readonly Receipt[]> {
    const found = await this.#requester.object<ReceiptsResponse>("POST", pathOf("queues", queue, "listeners", listener, "acknowledgements"), "receipts", { body: fields }, options);
    return found.receipts;
  }

  /**
   * List the attempts to deliver to a listener. Of all its messages, without details. A page can be short or empty
   * and still have a `next`: the list ends at the page without one.
   */
  attempts(
    queue: string,
    listener: string,
    query: { created_after?: number | undefined; created_before?: number | undefined; state?: "acknowledged" | "failed" | undefined; status?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Attempt> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "listeners", listener, "attempts"), items: "attempts", query, options });
  }

  /** Get an attempt to deliver to a listener. With details, if they were kept. */
  async attempt(queue: string, listener: string, attempt: string, options: RequestOptions = {}): Promise<Attempt> {
    const found = await this.#requester.object<AttemptResponse>("GET", pathOf("queues", queue, "listeners", listener, "attempts", attempt), "attempt", {}, options);
    return found.attempt;
  }
}

/** Operations of `client.messages`. */
export class Messages {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the messages of a queue. */
  list(
    queue?: string | null,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; listener?: string | undefined; state?: "acknowledged" | "pending" | "retrying" | "missed" | "no_listeners" | undefined; key?: string | undefined; header?: string | undefined; data?: "true" | "false" | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Message> {
    return new Pages(this.#requester, { path: queue == null ? pathOf("messages") : pathOf("queues", queue, "messages"), items: "messages", query, options });
  }

  /**
   * Publish a message. The message is durable when the response arrives. Every listener of the queue receives it.
   * With headers `ce-…`, including `ce-specversion`, the request is a CloudEvent in binary mode: its body is the
   * data, of any media type.
   */
  async create(queue: string, fields: MessageBody = {}, options: RequestOptions = {}): Promise<Message> {
    const found = await this.#requester.object<MessageResponse>("POST", pathOf("queues", queue, "messages"), "message", { body: fields }, options);
    return found.message;
  }

  /** Publish many messages. Publishes all of them or none. */
  async createBatch(queue: string, fields: BatchBody, options: RequestOptions = {}): Promise<readonly Message[]> {
    const found = await this.#requester.object<MessagesResponse>("POST", pathOf("queues", queue, "messages", "batch"), "messages", { body: fields }, options);
    return found.messages;
  }

  /** Get a message and its deliveries. */
  async get(queue: string, message: string, options: RequestOptions = {}): Promise<Message> {
    const found = await this.#requester.object<MessageResponse>("GET", pathOf("queues", queue, "messages", message), "message", {}, options);
    return found.message;
  }

  /** Change the alias of a message. */
  async update(
    queue: string,
    message: string,
    fields: MessageChangeBody = {},
    options: RequestOptions = {},
  ): Promise<Message> {
    const found = await this.#requester.object<MessageResponse>("PUT", pathOf("queues", queue, "messages", message), "message", { body: fields }, options);
    return found.message;
  }

  /** Delete a message. Pending deliveries are dropped. */
  async delete(queue: string, message: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "messages", message), {}, options);
  }

  /**
   * List the deliveries of a message. One for each listener that existed when the message was stored, newest
   * listener first. `after` and `before` are ids of listeners.
   */
  deliveries(
    queue: string,
    message: string,
    query: { created_after?: number | undefined; created_before?: number | undefined; state?: "acknowledged" | "pending" | "retrying" | "missed" | "filtered" | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Delivery> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "messages", message, "deliveries"), items: "deliveries", query, options });
  }

  /** List the attempts to deliver a message. To all listeners, without details. */
  attempts(
    queue: string,
    message: string,
    query: { created_after?: number | undefined; created_before?: number | undefined; state?: "acknowledged" | "failed" | undefined; status?: string | undefined; listener?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Attempt> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "messages", message, "attempts"), items: "attempts", query, options });
  }

  /** Get an attempt to deliver a message. With details, if they were kept. */
  async attempt(queue: string, message: string, attempt: string, options: RequestOptions = {}): Promise<Attempt> {
    const found = await this.#requester.object<AttemptResponse>("GET", pathOf("queues", queue, "messages", message, "attempts", attempt), "attempt", {}, options);
    return found.attempt;
  }
}

/** Operations of `client.missed`. */
export class Missed {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /**
   * List the missed messages of all listeners. By listener, the newest first, and for each listener from its newest
   * missed message to its oldest. A message that several listeners missed is listed for each. `after` and `before`
   * are positions from `_links`. A page can be short or empty and still have a `next`: the list ends at the page
   * without one.
   */
  list(
    query: { created_after?: number | undefined; created_before?: number | undefined; reason?: "attempts_used_up" | "expired" | "final_status" | "no_retry" | "too_old" | "transform" | undefined; queue?: string | undefined; listener?: string | undefined; group?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<MissedMessage> {
    return new Pages(this.#requester, { path: pathOf("missed"), items: "missed", query, options });
  }

  /**
   * List the groups of missed messages. A group has the messages that a listener missed for one reason, after
   * responses with one status that differ at most in numbers, ids, times and addresses. `after` and `before` are
   * ids of groups. Groups can change their places.
   */
  groups(
    query: { queue?: string | undefined; listener?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<MissedGroup> {
    return new Pages(this.#requester, { path: pathOf("missed", "groups"), items: "groups", query, options });
  }
}

/** Operations of `client.organizations`. */
export class Organizations {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List organizations. A key of the operator's organization sees all organizations, other keys only their own. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Organization> {
    return new Pages(this.#requester, { path: pathOf("organizations"), items: "organizations", query, options });
  }

  /**
   * Create an organization. Only this response shows the organization's first API key. A key of the operator's
   * organization can create any, other keys those below their own organization, as many as the operator allows.
   */
  async create(fields: OrganizationBody = {}, options: RequestOptions = {}): Promise<CreatedOrganizationResponse> {
    return await this.#requester.object<CreatedOrganizationResponse>("POST", pathOf("organizations"), "organization", { body: fields }, options);
  }

  /** Get an organization. */
  async get(organization: string, options: RequestOptions = {}): Promise<Organization> {
    const found = await this.#requester.object<OrganizationResponse>("GET", pathOf("organizations", organization), "organization", {}, options);
    return found.organization;
  }

  /** Change an organization. */
  async update(
    organization: string,
    fields: OrganizationBody = {},
    options: RequestOptions = {},
  ): Promise<Organization> {
    const found = await this.#requester.object<OrganizationResponse>("PUT", pathOf("organizations", organization), "organization", { body: fields }, options);
    return found.organization;
  }

  /** Delete an organization. Also deletes everything in it. */
  async delete(organization: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("organizations", organization), {}, options);
  }
}

/** Operations of `client.portal`. */
export class Portal {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** Get the settings of the portal. */
  async list(organization: string, options: RequestOptions = {}): Promise<PortalSettings> {
    const found = await this.#requester.object<PortalResponse>("GET", pathOf("organizations", organization, "portal"), "portal", {}, options);
    return found.portal;
  }

  /** Change the settings of the portal: which pages may embed it. */
  async update(
    organization: string,
    fields: PortalSettingsBody,
    options: RequestOptions = {},
  ): Promise<PortalSettings> {
    const found = await this.#requester.object<PortalResponse>("PUT", pathOf("organizations", organization, "portal"), "portal", { body: fields }, options);
    return found.portal;
  }
}

/** Operations of `client.portalSessions`. */
export class PortalSessions {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the sessions of customers in the portal. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<PortalSession> {
    return new Pages(this.#requester, { path: pathOf("portal_sessions"), items: "portal_sessions", query, options });
  }

  /**
   * Create a session of a customer in the portal. Only this response has the URL that opens it, within a minute and
   * once. Give the URL to the customer's browser.
   */
  async create(fields: PortalSessionBody, options: RequestOptions = {}): Promise<PortalSession> {
    const found = await this.#requester.object<PortalSessionResponse>("POST", pathOf("portal_sessions"), "portal_session", { body: fields }, options);
    return found.portal_session;
  }

  /** Get a session of a customer in the portal. */
  async get(portalSession: string, options: RequestOptions = {}): Promise<PortalSession> {
    const found = await this.#requester.object<PortalSessionResponse>("GET", pathOf("portal_sessions", portalSession), "portal_session", {}, options);
    return found.portal_session;
  }

  /** End a session of a customer in the portal. */
  async delete(portalSession: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("portal_sessions", portalSession), {}, options);
  }
}

/** Operations of `client.queues`. */
export class Queues {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List queues. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; customer?: string | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Queue> {
    return new Pages(this.#requester, { path: pathOf("queues"), items: "queues", query, options });
  }

  /** Create a queue. */
  async create(fields: QueueBody = {}, options: RequestOptions = {}): Promise<Queue> {
    const found = await this.#requester.object<QueueResponse>("POST", pathOf("queues"), "queue", { body: fields }, options);
    return found.queue;
  }

  /** Get a queue. */
  async get(queue: string, options: RequestOptions = {}): Promise<Queue> {
    const found = await this.#requester.object<QueueResponse>("GET", pathOf("queues", queue), "queue", {}, options);
    return found.queue;
  }

  /** Change a queue. */
  async update(queue: string, fields: QueueBody = {}, options: RequestOptions = {}): Promise<Queue> {
    const found = await this.#requester.object<QueueResponse>("PUT", pathOf("queues", queue), "queue", { body: fields }, options);
    return found.queue;
  }

  /** Delete a queue. Also deletes its listeners and messages. */
  async delete(queue: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue), {}, options);
  }
}

/** Operations of `client.redeliveries`. */
export class Redeliveries {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the redeliveries of a listener. */
  list(
    queue: string,
    listener: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Redelivery> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "listeners", listener, "redeliveries"), items: "redeliveries", query, options });
  }

  /**
   * Redeliver messages. The selected deliveries become due again, with all their attempts. With `dry_run`, nothing
   * changes.
   */
  async create(
    queue: string,
    listener: string,
    fields: RedeliveryBody = {},
    options: RequestOptions = {},
  ): Promise<CreatedRedeliveryResponse> {
    return await this.#requester.object<CreatedRedeliveryResponse>("POST", pathOf("queues", queue, "listeners", listener, "redeliveries"), undefined, { body: fields }, options);
  }

  /** Get a redelivery. */
  async get(queue: string, listener: string, redelivery: string, options: RequestOptions = {}): Promise<Redelivery> {
    const found = await this.#requester.object<RedeliveryResponse>("GET", pathOf("queues", queue, "listeners", listener, "redeliveries", redelivery), "redelivery", {}, options);
    return found.redelivery;
  }

  /** Cancel a redelivery. Deletes it at once. Deliveries that are due again already stay due. */
  async delete(queue: string, listener: string, redelivery: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "listeners", listener, "redeliveries", redelivery), {}, options);
  }
}

/** Operations of `client.refusals`. */
export class Refusals {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the requests that a source refused. The last 100, without bodies. A request is listed within seconds. */
  list(
    source: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Refusal> {
    return new Pages(this.#requester, { path: pathOf("sources", source, "refusals"), items: "refusals", query, options });
  }
}

/** Operations of `client.replays`. */
export class Replays {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the replays of a listener. */
  list(
    queue: string,
    listener: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Replay> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "listeners", listener, "replays"), items: "replays", query, options });
  }

  /**
   * Replay a part of the queue. Sends messages to the listener again, in addition to new ones. With `dry_run`,
   * nothing changes.
   */
  async create(
    queue: string,
    listener: string,
    fields: ReplayBody = {},
    options: RequestOptions = {},
  ): Promise<CreatedReplayResponse> {
    return await this.#requester.object<CreatedReplayResponse>("POST", pathOf("queues", queue, "listeners", listener, "replays"), undefined, { body: fields }, options);
  }

  /** Get a replay. */
  async get(queue: string, listener: string, replay: string, options: RequestOptions = {}): Promise<Replay> {
    const found = await this.#requester.object<ReplayResponse>("GET", pathOf("queues", queue, "listeners", listener, "replays", replay), "replay", {}, options);
    return found.replay;
  }

  /** Cancel a replay. Deletes it at once. Nothing more is sent for it. */
  async delete(queue: string, listener: string, replay: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "listeners", listener, "replays", replay), {}, options);
  }
}

/** Operations of `client.schedules`. */
export class Schedules {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List the schedules of a queue. */
  list(
    queue: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Schedule> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "schedules"), items: "schedules", query, options });
  }

  /** Create a schedule. Publishes a message at each of its runs, once, whatever the number of workers. */
  async create(queue: string, fields: NewSchedule, options: RequestOptions = {}): Promise<Schedule> {
    const found = await this.#requester.object<ScheduleResponse>("POST", pathOf("queues", queue, "schedules"), "schedule", { body: fields }, options);
    return found.schedule;
  }

  /** Get a schedule. */
  async get(queue: string, schedule: string, options: RequestOptions = {}): Promise<Schedule> {
    const found = await this.#requester.object<ScheduleResponse>("GET", pathOf("queues", queue, "schedules", schedule), "schedule", {}, options);
    return found.schedule;
  }

  /** Change a schedule. A change of its times applies from now on. */
  async update(
    queue: string,
    schedule: string,
    fields: ScheduleBody = {},
    options: RequestOptions = {},
  ): Promise<Schedule> {
    const found = await this.#requester.object<ScheduleResponse>("PUT", pathOf("queues", queue, "schedules", schedule), "schedule", { body: fields }, options);
    return found.schedule;
  }

  /** Delete a schedule. The messages that it published stay. */
  async delete(queue: string, schedule: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "schedules", schedule), {}, options);
  }
}

/** Operations of `client.schemas`. */
export class Schemas {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** Get a schema. The current schema of the queue. Previous schemas are not found. */
  async get(queue: string, schema: string, options: RequestOptions = {}): Promise<QueueSchemaResponse> {
    return await this.#requester.object<QueueSchemaResponse>("GET", pathOf("queues", queue, "schemas", schema), "schema", {}, options);
  }
}

/** Operations of `client.secrets`. */
export class Secrets {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List a listener's signing secrets. The valid ones, without the secrets themselves. */
  list(
    queue: string,
    listener: string,
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Secret> {
    return new Pages(this.#requester, { path: pathOf("queues", queue, "listeners", listener, "secrets"), items: "secrets", query, options });
  }

  /**
   * Create a signing secret. Requests are signed with it from now on, and with the older secrets of its type until
   * these expire. Only this response shows the secret; the private key of a key pair is never shown.
   */
  async create(
    queue: string,
    listener: string,
    fields: SecretBody = {},
    options: RequestOptions = {},
  ): Promise<Secret> {
    const found = await this.#requester.object<SecretResponse>("POST", pathOf("queues", queue, "listeners", listener, "secrets"), "secret", { body: fields }, options);
    return found.secret;
  }

  /** Get a signing secret. Without the secret itself. */
  async get(queue: string, listener: string, secret: string, options: RequestOptions = {}): Promise<Secret> {
    const found = await this.#requester.object<SecretResponse>("GET", pathOf("queues", queue, "listeners", listener, "secrets", secret), "secret", {}, options);
    return found.secret;
  }

  /** Delete a signing secret. Requests are no longer signed with it. */
  async delete(queue: string, listener: string, secret: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("queues", queue, "listeners", listener, "secrets", secret), {}, options);
  }
}

/** Operations of `client.service`. */
export class Service {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** Check that the process is alive. */
  async live(options: RequestOptions = {}): Promise<Open<"live" | "ready" | "damaged">> {
    const found = await this.#requester.object<HealthResponse>("GET", pathOf("health", "live"), "status", {}, options);
    return found.status;
  }

  /**
   * Check that requests are served. 503 while the service starts or drains, or the database is not writable. If a
   * part of the database is damaged, the response is 200 with the status `damaged`, because other queues are
   * served.
   */
  async ready(options: RequestOptions = {}): Promise<Open<"live" | "ready" | "damaged">> {
    const found = await this.#requester.object<HealthResponse>("GET", pathOf("health", "ready"), "status", {}, options);
    return found.status;
  }
}

/** Operations of `client.sources`. */
export class Sources {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List sources. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Source> {
    return new Pages(this.#requester, { path: pathOf("sources"), items: "sources", query, options });
  }

  /** Create a source. Enter its `url` in the settings of the provider. */
  async create(fields: NewSource, options: RequestOptions = {}): Promise<Source> {
    const found = await this.#requester.object<SourceResponse>("POST", pathOf("sources"), "source", { body: fields }, options);
    return found.source;
  }

  /** Get a source. The response does not contain its secrets. */
  async get(source: string, options: RequestOptions = {}): Promise<Source> {
    const found = await this.#requester.object<SourceResponse>("GET", pathOf("sources", source), "source", {}, options);
    return found.source;
  }

  /** Change a source. */
  async update(source: string, fields: SourceBody = {}, options: RequestOptions = {}): Promise<Source> {
    const found = await this.#requester.object<SourceResponse>("PUT", pathOf("sources", source), "source", { body: fields }, options);
    return found.source;
  }

  /** Delete a source. Messages that it has published stay in the queue. */
  async delete(source: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("sources", source), {}, options);
  }
}

/** Operations of `client.stats`. */
export class Stats {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** Count usage events. Counts have a resolution of five minutes: a period starts at a multiple of five minutes. */
  async messages(options: RequestOptions = {}): Promise<EventWindows> {
    const found = await this.#requester.object<StatisticsResponse>("GET", pathOf("stats", "messages"), "aggregated_api_usage_events", {}, options);
    return found.aggregated_api_usage_events;
  }

  /** Get limits and their use. The rate limit of the API key, and the quotas of its organization. */
  async limits(options: RequestOptions = {}): Promise<Limits> {
    const found = await this.#requester.object<LimitsResponse>("GET", pathOf("limits"), "limits", {}, options);
    return found.limits;
  }
}

/** Operations of `client.topics`. */
export class Topics {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List topics. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<Topic> {
    return new Pages(this.#requester, { path: pathOf("topics"), items: "topics", query, options });
  }

  /** Create a topic. */
  async create(fields: TopicBody = {}, options: RequestOptions = {}): Promise<Topic> {
    const found = await this.#requester.object<TopicResponse>("POST", pathOf("topics"), "topic", { body: fields }, options);
    return found.topic;
  }

  /** Get a topic. */
  async get(topic: string, options: RequestOptions = {}): Promise<Topic> {
    const found = await this.#requester.object<TopicResponse>("GET", pathOf("topics", topic), "topic", {}, options);
    return found.topic;
  }

  /** Change a topic. */
  async update(topic: string, fields: TopicBody = {}, options: RequestOptions = {}): Promise<Topic> {
    const found = await this.#requester.object<TopicResponse>("PUT", pathOf("topics", topic), "topic", { body: fields }, options);
    return found.topic;
  }

  /** Delete a topic. Also deletes its channels. Messages that were published to it stay in the queues. */
  async delete(topic: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("topics", topic), {}, options);
  }

  /**
   * Publish a message to a topic. When the response arrives, the message is durable in all queues that the topic's
   * channels select, or in none. `data` is a string or bytes, which are delivered as they are, or any value with a
   * JSON form. As with `client.publish`, the message is published once, however often the request is sent.
   */
  async publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<TopicMessage> {
    const found = await this.#requester.object<TopicMessageResponse>("POST", pathOf("topics", topic, "messages"), "message", { body: messageOf(data, options) }, options);
    return found.message;
  }

  /** Publish many messages to a topic. Publishes all of them or none. */
  async publishBatch(topic: string, fields: BatchBody, options: RequestOptions = {}): Promise<readonly TopicMessage[]> {
    const found = await this.#requester.object<TopicMessagesResponse>("POST", pathOf("topics", topic, "messages", "batch"), "messages", { body: fields }, options);
    return found.messages;
  }
}

/** Operations of `client.users`. */
export class Users {
  readonly #requester: Requester;

  constructor(requester: Requester) {
    this.#requester = requester;
  }

  /** List users. */
  list(
    query: { alias?: string | undefined; created_after?: number | undefined; created_before?: number | undefined; limit?: number | undefined } = {},
    options: RequestOptions = {},
  ): Pages<User> {
    return new Pages(this.#requester, { path: pathOf("users"), items: "users", query, options });
  }

  /** Create a user. With a password, or with an invitation, which only this response shows. */
  async create(fields: NewUser, options: RequestOptions = {}): Promise<UserResponse> {
    return await this.#requester.object<UserResponse>("POST", pathOf("users"), "user", { body: fields }, options);
  }

  /** Get a user. */
  async get(user: string, options: RequestOptions = {}): Promise<User> {
    const found = await this.#requester.object<UserResponse>("GET", pathOf("users", user), "user", {}, options);
    return found.user;
  }

  /** Change a user. A new password or invitation invalidates the previous invitation. */
  async update(user: string, fields: UserBody = {}, options: RequestOptions = {}): Promise<User> {
    const found = await this.#requester.object<UserResponse>("PUT", pathOf("users", user), "user", { body: fields }, options);
    return found.user;
  }

  /** Delete a user. */
  async delete(user: string, options: RequestOptions = {}): Promise<void> {
    await this.#requester.request("DELETE", pathOf("users", user), {}, options);
  }

  /** Accept an invitation. Sets the user's password. A token can be used once. */
  async acceptInvitation(fields: InvitationBody, options: RequestOptions = {}): Promise<UserResponse> {
    return await this.#requester.object<UserResponse>("POST", pathOf("invitations"), "user", { body: fields, repeatable: false }, options);
  }
}

/** The resources of a service, as attributes. */
export class Resources {
  protected readonly requester: Requester;
  readonly apiKeys: ApiKeys;
  readonly channels: Channels;
  readonly domains: Domains;
  readonly erasures: Erasures;
  readonly eventTypes: EventTypes;
  readonly events: Events;
  readonly listeners: Listeners;
  readonly messages: Messages;
  readonly missed: Missed;
  readonly organizations: Organizations;
  readonly portal: Portal;
  readonly portalSessions: PortalSessions;
  readonly queues: Queues;
  readonly redeliveries: Redeliveries;
  readonly refusals: Refusals;
  readonly replays: Replays;
  readonly schedules: Schedules;
  readonly schemas: Schemas;
  readonly secrets: Secrets;
  readonly service: Service;
  readonly sources: Sources;
  readonly stats: Stats;
  readonly topics: Topics;
  readonly users: Users;

  constructor(requester: Requester) {
    this.requester = requester;
    this.apiKeys = new ApiKeys(requester);
    this.channels = new Channels(requester);
    this.domains = new Domains(requester);
    this.erasures = new Erasures(requester);
    this.eventTypes = new EventTypes(requester);
    this.events = new Events(requester);
    this.listeners = new Listeners(requester);
    this.messages = new Messages(requester);
    this.missed = new Missed(requester);
    this.organizations = new Organizations(requester);
    this.portal = new Portal(requester);
    this.portalSessions = new PortalSessions(requester);
    this.queues = new Queues(requester);
    this.redeliveries = new Redeliveries(requester);
    this.refusals = new Refusals(requester);
    this.replays = new Replays(requester);
    this.schedules = new Schedules(requester);
    this.schemas = new Schemas(requester);
    this.secrets = new Secrets(requester);
    this.service = new Service(requester);
    this.sources = new Sources(requester);
    this.stats = new Stats(requester);
    this.topics = new Topics(requester);
    this.users = new Users(requester);
  }
}

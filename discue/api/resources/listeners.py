"""`/listeners`, and the listeners of a queue."""

from typing import Annotated, Any, ClassVar, Final, Self

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.delivery_options import (
    FILTER_EXAMPLE,
    FORMAT,
    LEASE,
    LISTENER_TYPES,
    RATE_LIMIT,
    TRACE,
    TRANSFORM,
    EffectiveOptionsView,
    HeadersSent,
    HeadersShown,
    RateLimitBody,
    RateLimitView,
    RetrySent,
    RetryShown,
    TypesSent,
    effective_view,
    filter_given,
    filter_sent_doc,
    filter_view,
    rate_view,
    retry_given,
    retry_view,
)
from discue.api.pagination import LISTENER_PAGES
from discue.api.resource import ResourceKind, fields_of, or_unset, sent_fields, view_of
from discue.api.resources.deliveries import LAST_FAILURE_MSG, LAST_FAILURE_STATUS, last_failure_fields
from discue.api.route import Call, Needs
from discue.api.structs import (
    NOT_SENT,
    PUBLIC_ID,
    QUEUE_ID,
    SECRET,
    SECRET_EXAMPLE,
    STATUS,
    ApiResponse,
    AsSent,
    Integer,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
    status_given,
    text_given,
    within,
)
from discue.control import listeners
from discue.control.listener_fields import (
    LONGEST_DESCRIPTION,
    MAX_IN_FLIGHT,
    MODES,
    TIMEOUT_SECONDS,
    ListenerFields,
    OptionFields,
)
from discue.control.listeners import ListenerDetails
from discue.crypto.endpoint_credentials import (
    MAX_PEM_CHARACTERS,
    MAX_SECRET_CHARACTERS,
    MAX_USERNAME_CHARACTERS,
    TYPES,
    AuthenticationFields,
)
from discue.domain.model import LONGEST_CUSTOMER
from discue.domain.waiting import DAMAGED

_URL_LIMITS: Final = {"minLength": 4, "maxLength": 253, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^#]+$"}
"""Limits of URLs that requests are sent to."""

_SECRET_TEXT: Final = {"minLength": 1, "maxLength": MAX_SECRET_CHARACTERS}
_PEM: Final = {"minLength": 1, "maxLength": MAX_PEM_CHARACTERS}
_AUTHENTICATION_TYPE: Final = doc("The authentication scheme.", "oauth2", enum=list(TYPES))
_USERNAME: Final = doc(
    "`basic`: the user name, without a colon.", "discue", minLength=1, maxLength=MAX_USERNAME_CHARACTERS
)
_TOKEN_URL: Final = doc("`oauth2`: the token endpoint.", "https://login.example.com/token", **_URL_LIMITS)
_CLIENT_ID: Final = doc("`oauth2`: the client id.", "discue", **_SECRET_TEXT)
_SCOPE: Final = doc("`oauth2`: the requested scopes.", "orders:write", **_SECRET_TEXT)
_AUDIENCE: Final = doc(
    "`oauth2`: the audience of the token, if the token endpoint requires one.", "orders", **_SECRET_TEXT
)
_CERTIFICATE: Final = doc(
    "`certificate`: the client certificate in PEM, followed by its intermediate certificates.",
    "-----BEGIN CERTIFICATE-----\n…",
    **_PEM,
)

_NOTIFY_URL: Final = doc(
    "Where messages are sent: an http or https URL without credentials and fragment. Push mode only.",
    "https://example.com/notify",
    **_URL_LIMITS,
)
_LIVENESS_URL: Final = doc(
    "Where the listener's liveness is checked: an http or https URL without credentials and fragment. null: nowhere. "
    "Push mode only.",
    "https://example.com/live",
    **_URL_LIMITS,
)
_CUSTOMER: Final = doc(
    "Your name or id of the customer that the listener belongs to. Sessions of the portal see only the listeners of "
    "their customer. In a customer's queue, it is always that customer. null: none.",
    "acme",
    maxLength=LONGEST_CUSTOMER,
)
_DESCRIPTION: Final = doc(
    "A note about the purpose of the listener. It has no effect on deliveries. null: none.",
    "Books paid orders",
    maxLength=LONGEST_DESCRIPTION,
)
_MODE: Final = doc(
    "`push` (the default): messages are sent to it. `pull`: its consumers fetch them. Fixed at creation.",
    "push",
    enum=list(MODES),
)
_TIMEOUT: Final = doc("Timeout of an attempt, response body included, in seconds.", 15, **within(TIMEOUT_SECONDS))
_MAX_IN_FLIGHT: Final = doc("Maximum number of requests in flight.", 50, **within(MAX_IN_FLIGHT))
_FILTER_TEXT: Final = "Which messages it receives: conditions on their data, headers and key."


class AuthenticationBody(AuthenticationFields, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """How requests authenticate to the listener. The type decides which of the other fields are needed."""

    type: Annotated[str, _AUTHENTICATION_TYPE]
    username: Annotated[str | None, _USERNAME] = None
    password: Annotated[
        str | None, doc("`basic`: the password. Never shown.", "correct horse battery", **_SECRET_TEXT)
    ] = None
    token_url: Annotated[str | None, _TOKEN_URL] = None
    client_id: Annotated[str | None, _CLIENT_ID] = None
    client_secret: Annotated[
        str | None, doc("`oauth2`: the client secret. Never shown.", "correct horse battery", **_SECRET_TEXT)
    ] = None
    scope: Annotated[str | None, _SCOPE] = None
    audience: Annotated[str | None, _AUDIENCE] = None
    certificate: Annotated[str | None, _CERTIFICATE] = None
    private_key: Annotated[
        str | None,
        doc(
            "`certificate`: the private key in PEM, not encrypted. Never shown.",
            "-----BEGIN PRIVATE KEY-----\n…",
            **_PEM,
        ),
    ] = None


class AuthenticationView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """How requests authenticate to the listener, without secrets."""

    type: Annotated[str, _AUTHENTICATION_TYPE]
    username: Annotated[str | UnsetType, _USERNAME] = UNSET
    token_url: Annotated[str | UnsetType, _TOKEN_URL] = UNSET
    client_id: Annotated[str | UnsetType, _CLIENT_ID] = UNSET
    scope: Annotated[str | UnsetType, _SCOPE] = UNSET
    audience: Annotated[str | UnsetType, _AUDIENCE] = UNSET
    certificate: Annotated[str | UnsetType, _CERTIFICATE] = UNSET


@read_only("queue_id", "status_reason", "status_changed_at", "liveness", "messages", "secret", "effective")
class ListenerBody(NamedBody, kw_only=True):
    """A listener to create, or the changes to one."""

    sample: ClassVar = {"alias": "billing", "notify_url": "https://example.com/notify"}
    opaque_fields = ("filter",)

    notify_url: Annotated[str | UnsetType, _NOTIFY_URL] = UNSET
    liveness_url: Annotated[Text, _LIVENESS_URL] = UNSET
    status: Annotated[Text, STATUS] = UNSET
    headers: HeadersSent = UNSET
    timeout: Annotated[Integer, _TIMEOUT] = UNSET
    retry: RetrySent = UNSET
    max_in_flight: Annotated[Integer, _MAX_IN_FLIGHT] = UNSET
    rate_limit: Annotated[RateLimitBody | None | UnsetType, RATE_LIMIT] = UNSET
    types: TypesSent = UNSET
    filter: Annotated[AsSent, filter_sent_doc(f"{_FILTER_TEXT} null: all.")] = NOT_SENT
    transform: Annotated[Text, TRANSFORM] = UNSET
    format: Annotated[Text, FORMAT] = UNSET
    mode: Annotated[Text, _MODE] = UNSET
    lease_seconds: Annotated[Integer, LEASE] = UNSET
    trace: Annotated[Text, TRACE] = UNSET
    description: Annotated[Text, _DESCRIPTION] = UNSET
    customer: Annotated[Text, _CUSTOMER] = UNSET
    authentication: Annotated[
        AuthenticationBody | None | UnsetType,
        doc(
            "How requests authenticate to the listener, in addition to their signatures. null: by signatures alone.",
            {"type": "basic", "username": "discue", "password": "correct horse battery"},
        ),
    ] = UNSET


class LivenessView(msgspec.Struct, frozen=True):
    """The results of liveness checks. Times and statuses are 0, and texts empty, as long as there are none."""

    state: Annotated[
        str, doc("The liveness of the listener.", "unknown", enum=["unknown", "stable", "unstable", "inactive"])
    ]
    success_count: Annotated[int, doc("Number of successful checks.", 0, minimum=0)]
    failure_count: Annotated[int, doc("Number of failed checks.", 0, minimum=0)]
    last_success_at: Annotated[int, instant_doc("When a check last succeeded; 0: never", 0)]
    last_failure_at: Annotated[int, instant_doc("When a check last failed; 0: never", 0)]
    last_failure_status: Annotated[
        int, doc("Status of the response to the last failed check; 0: no response.", 0, minimum=0, maximum=999)
    ]
    last_failure_msg: Annotated[str, doc("Why the last failed check failed; empty if none failed.", "answered 503")]


class ListenerMessagesView(msgspec.Struct, frozen=True):
    """The state of a listener's deliveries."""

    acknowledged_count: Annotated[int, doc("Number of messages acknowledged.", 1, minimum=0)]
    missed: Annotated[
        tuple[str, ...],
        doc(
            "Ids of missed messages, newest first, at most 100.",
            [],
            maxItems=100,
            items={"type": "string", "pattern": PUBLIC_ID},
        ),
    ]
    missed_count: Annotated[int, doc("Number of messages missed.", 0, minimum=0)]
    pending_count: Annotated[int, doc("Number of messages that wait for the listener.", 0, minimum=0)]
    last_success_at: Annotated[int, instant_doc("When an attempt last succeeded; 0: never", 0)]
    last_failure_at: Annotated[int, instant_doc("When an attempt last failed; 0: never", 0)]
    last_failure_status: Annotated[int, LAST_FAILURE_STATUS]
    last_failure_msg: Annotated[str, LAST_FAILURE_MSG]


class ListenerView(View, kw_only=True, frozen=True):
    """A listener. Options that were not set are omitted."""

    id: Annotated[str, id_doc("listener_id")]
    queue_id: Annotated[str, QUEUE_ID]
    status: Annotated[str, STATUS]
    status_reason: Annotated[
        str,
        doc(
            "Why it receives nothing, or little: it is disabled or inactive, or its domain is not verified. Empty if "
            "nothing prevents it.",
            "It is disabled because it answered 410 Gone.",
        ),
    ]
    status_changed_at: Annotated[
        int,
        instant_doc("When it was last enabled or disabled, or became inactive or stopped to be", 1_795_536_280_000),
    ]
    mode: Annotated[str, _MODE]
    notify_url: Annotated[str | UnsetType, _NOTIFY_URL] = UNSET
    liveness_url: Annotated[str | UnsetType, _LIVENESS_URL] = UNSET
    liveness: Annotated[LivenessView, doc("The results of liveness checks.")]
    messages: Annotated[ListenerMessagesView, doc("The state of its deliveries.")]
    effective: Annotated[
        EffectiveOptionsView, doc("The options in effect: set for the listener, its queue, or the service.")
    ]
    lease_seconds: Annotated[int | UnsetType, LEASE] = UNSET
    headers: HeadersShown = UNSET
    timeout: Annotated[int | UnsetType, _TIMEOUT] = UNSET
    max_in_flight: Annotated[int | UnsetType, _MAX_IN_FLIGHT] = UNSET
    rate_limit: Annotated[RateLimitView | UnsetType, RATE_LIMIT] = UNSET
    retry: RetryShown = UNSET
    types: Annotated[tuple[str, ...] | UnsetType, LISTENER_TYPES] = UNSET
    filter: Annotated[msgspec.Raw | UnsetType, doc(_FILTER_TEXT, FILTER_EXAMPLE, type="object")] = UNSET
    transform: Annotated[str | UnsetType, TRANSFORM] = UNSET
    format: Annotated[str | UnsetType, FORMAT] = UNSET
    trace: Annotated[str | UnsetType, TRACE] = UNSET
    description: Annotated[str | UnsetType, _DESCRIPTION] = UNSET
    customer: Annotated[str | UnsetType, _CUSTOMER] = UNSET
    authentication: Annotated[
        AuthenticationView | UnsetType,
        doc("How requests authenticate to the listener, without secrets.", {"type": "basic", "username": "discue"}),
    ] = UNSET
    secret: Annotated[str | UnsetType, doc("The signing secret. Shown at creation only.", SECRET_EXAMPLE, **SECRET)] = (
        UNSET
    )

    def without_secrets(self) -> Self:
        return replace(self, secret=UNSET)


def _fields(call: Call) -> ListenerFields:
    body: ListenerBody = call.body
    retry, own_filter = retry_given(body.retry), filter_given(body.filter)
    return fields_of(
        call,
        ListenerFields,
        status=status_given(body.status),
        # null resets a field to its default, here as in every other field.
        mode="push" if body.mode is None else text_given(body.mode),
        notify_url=text_given(body.notify_url),
        options=sent_fields(body, OptionFields, timeout_seconds=body.timeout, retry=retry, filter=own_filter),
    )


def _view(call: Call, details: ListenerDetails) -> ListenerView:
    listener, options, counts = details.listener, details.listener.options, details.counts
    is_damaged = (listener.organization, listener.queue) in call.control.store.damage.parts()
    authentication = options.authentication
    return view_of(
        ListenerView,
        listener,
        options,
        status_reason=details.condition.reason or (DAMAGED if is_damaged else ""),
        status_changed_at=details.status_changed_at,
        liveness=view_of(LivenessView, details.liveness),
        messages=ListenerMessagesView(
            acknowledged_count=counts.acknowledged,
            missed=details.missed,
            missed_count=counts.missed,
            pending_count=counts.pending,
            last_success_at=counts.last_success_at,
            last_failure_at=counts.last_failure_at,
            **last_failure_fields(details.last_failure),
        ),
        effective=effective_view(listener, call.default_retry, call.control.settings),
        headers=dict(options.headers) or UNSET,
        timeout=or_unset(options.timeout_seconds),
        rate_limit=rate_view(options.rate_limit),
        retry=retry_view(options.retry),
        filter=filter_view(options.filter),
        format=UNSET if options.format == "plain" else options.format,
        trace=UNSET if options.trace == "propagate" else options.trace,
        authentication=UNSET if authentication is None else view_of(AuthenticationView, authentication),
        secret=details.secret or UNSET,
    )


class _Listeners(ResourceKind[ListenerDetails]):
    def one(self, call: Call, item: ListenerDetails, **fields: Any) -> ApiResponse:
        """Return the response with a listener. Logs that a request has enabled or disabled it."""
        if item.has_new_status:
            call.services.log.info(
                "listener_enabled" if item.listener.status == "enabled" else "listener_disabled",
                listener=item.listener.public_id,
                reason="request",
            )
        return super().one(call, item, **fields)


_LISTENERS: Final = _Listeners(
    path="/queues/{queue_id}/listeners",
    name="listener",
    view_type=ListenerView,
    view=_view,
    stored=lambda details: details.listener,
    needs=Needs.of("listeners"),
    body=ListenerBody,
    fields=_fields,
    codes=(
        "alias_taken",
        "address_refused",
        "domain_not_registered",
        "invalid_filter",
        "invalid_transform",
        "secrets_unreadable",
    ),
)

ROUTES = (
    _LISTENERS.list_route(
        listeners.page,
        "List the listeners of all queues.",
        LISTENER_PAGES,
        path="/listeners",
        collection=lambda item: f"/queues/{item.listener.queue_public_id}/listeners",
    ),
    _LISTENERS.list_route(listeners.page_of_queue, "List the listeners of a queue.", LISTENER_PAGES),
    _LISTENERS.create_route(
        listeners.create,
        "Create a listener. It receives messages that are published from now on. Only this response shows its signing "
        "secret. In pull mode it has neither a secret nor URLs.",
        "quota_exceeded",
        required=("notify_url",),
        required_unless=("mode", "pull"),
    ),
    _LISTENERS.get_route(listeners.get, "Get a listener."),
    _LISTENERS.change_route(
        listeners.change,
        "Change a listener. The messages of a disabled listener wait.",
        "immutable_field",
        example={"status": "disabled"},
    ),
    _LISTENERS.delete_route(listeners.delete, "Delete a listener."),
)

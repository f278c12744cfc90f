"""What the fields of requests and responses mean, and the limits that are checked where they are used.

Types decide what is a 400, the code behind them what is a 422. The documentation needs both, and an example of each.
"""

from collections.abc import Mapping
from typing import Any, Final

from discue.api.openapi import attempt_rules, delivery_rules, pull_rules, schedule_rules, topic_rules
from discue.api.openapi.rule import INSTANT, Rule
from discue.domain import quotas
from discue.domain.model import MISSED_REASONS
from discue.domain.scopes import PROTECTED, RESOURCES, TARGETS_LIMIT

PUBLIC_ID: Final = "^[0-9A-Za-z]{21}$"

EXAMPLE_IDS: Final[Mapping[str, str]] = {
    "organization_id": "0VbuJFS900Mq2Zk4ExGp8",
    "api_key_id": "0VbuJFSC00bYtW1nQhRk7",
    "queue_id": "0VbuJFSo00H8Lq7zazFOL",
    "listener_id": "0VbuJFSq00EIoG6UqhRtU",
    "secret_id": "0VbuJFSr00Wd4Tn9kLxEe",
    "message_id": "0VbuJFW500I0yWwoGXXf6",
    "user_id": "0VbuJFSt00rT5Kd9wNqXc",
    "domain_id": "0VbuJFSx00Gv3Jm8yPzBa",
    **topic_rules.EXAMPLE_IDS,
    "attempt_id": attempt_rules.EXAMPLE_ID,
    "schedule_id": schedule_rules.EXAMPLE_ID,
    "redelivery_id": "0VbuJFSr00mWc2Xv8TqLd",
    "replay_id": "0VbuJFSr008x0dWq5LmTs",
    "schema_id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = {"pattern": "^[A-Za-z0-9._/-]{4,64}$"}
_DOMAIN_NAME = {
    "pattern": rf"^{_LABEL}(?:\.{_LABEL})+(?:/[A-Za-z0-9._-]+)?$",
    "minLength": 4,
    "maxLength": 253,
}
_ID = {"pattern": PUBLIC_ID}
_INSTANT = INSTANT
_TIME = {"minimum": 0, "maximum": 999_999_999_999_999}
_COUNT = {"minimum": 0}
_REASON = {"enum": list(MISSED_REASONS)}
_EMAIL = {"minLength": 3, "maxLength": 254, "pattern": r"^[^\s\u0000-\u001f\u007f@]+@[^\s\u0000-\u001f\u007f@]+$"}
_URL = {"minLength": 4, "maxLength": 253, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^#]+$"}
_SWITCH = {"enum": ["enabled", "disabled"]}
_SECRET = {"pattern": "^whsec_[A-Za-z0-9+/]+=*$"}
_SECRET_EXAMPLE = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - nobody's
_SECRET_TYPE = {"enum": ["hmac", "ed25519"]}

_DIGEST = {"pattern": "^[0-9a-f]{64}$"}
_RULES_TEXT = "What messages must be like: a rule for each property. null clears it."
_RULES_EXAMPLE = {"order": {"type": "number", "min": 1}, "note": {"type": "string", "max": 200, "required": False}}
_RULES_PLACE = "#/components/schemas/SchemaRules"
_RULES_LIMITS = {"anyOf": [{"$ref": _RULES_PLACE}, {"type": "null"}]}
_DOCUMENT = [{"type": "object"}, {"type": "boolean"}]
_JSON_SCHEMA_TEXT = "The same as JSON Schema (2020-12). null clears it."
_JSON_SCHEMA_EXAMPLE = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}

_TARGET = {"type": "string", "pattern": r"^(?:[0-9A-Za-z]{21}|[0-9a-f]{64})$"}
_TARGETS: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^(?:\*|[0-9A-Za-z]{21}|[0-9a-f]{64})?$"},
        {"type": "array", "const": ["*"]},
        {"type": "array", "items": _TARGET, "maxItems": TARGETS_LIMIT},
    ]
}
_ACCESS = {"type": "string", "enum": ["read", "write"]}
_RESOURCE = {"type": "string", "enum": list(RESOURCES)}
_SCOPE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"access": {**_ACCESS, "default": "write"}, "targets": _TARGETS},
}
_SCOPES_SENT: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "propertyNames": _RESOURCE, "additionalProperties": _SCOPE},
        {
            "type": "array",
            "items": {
                **_SCOPE,
                "required": ["resource"],
                "properties": {"resource": _RESOURCE, **_SCOPE["properties"]},
            },
        },
    ]
}
_SCOPES_SHOWN: dict[str, Any] = {
    "propertyNames": _RESOURCE,
    "additionalProperties": {
        "type": "object",
        "additionalProperties": False,
        "required": ["access", "targets"],
        "properties": {"access": _ACCESS, "targets": {"type": "array", "items": {"type": "string"}}},
    },
}
_SCOPES_TEXT = (
    "What the key may do: a map from resource to access (`write` includes `read`) "
    "and targets (ids; none, or `*` alone: all)."
)


def _quota(name: quotas.QuotaName) -> Mapping[str, Any]:
    return {"minimum": 0, "maximum": quotas.HIGHEST[name]}


RULES: dict[str, Rule] = {
    "id": Rule("The id, given at creation. Ids sort by time.", EXAMPLE_IDS["queue_id"], _ID),
    "alias": Rule("The unique name; its id where none was given.", "orders", _NAME),
    "name": Rule("A synonym of `alias`.", "orders", _NAME),
    "created_at": Rule("When it was created, in milliseconds since the epoch.", 1_795_536_280_000, _INSTANT),
    "updated_at": Rule("When it was last changed, in milliseconds since the epoch.", 1_795_536_280_000, _INSTANT),
    "_links": Rule(
        "Where this is (`self`), and what is below it, keyed by alias.",
        {"self": {"href": "https://discue.example.com/v1"}},
        {"required": ["self"]},
    ),
    "href": Rule("An absolute URL.", "https://discue.example.com/v1/queues"),
    "OrganizationBody.alias": Rule("The unique name, a reverse domain name.", "com.example.dev", _DOMAIN_NAME),
    "OrganizationBody.name": Rule("A synonym of `alias`.", "com.example.dev", _DOMAIN_NAME),
    "OrganizationShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["organization_id"], _ID),
    "OrganizationShown.alias": Rule(
        "The unique name; `<creator's alias>.<id>` where none was given.", "com.example.dev", {"minLength": 4}
    ),
    "OrganizationShown.name": Rule("A synonym of `alias`.", "com.example.dev", {"minLength": 4}),
    "OrganizationShown.state": Rule(
        "A suspended organization's requests are answered 423.", "active", {"enum": ["active", "suspended"]}
    ),
    "rate_limit": Rule(
        "Requests a minute for each key, 0 for no limit. Set by the operator.",
        60_000,
        {"minimum": 0, "maximum": 2_147_483_647},
    ),
    "require_verified_domains": Rule(
        "Whether listeners must lie on domains of the organization, and get nothing before these are verified.",
        False,
    ),
    "user": Rule("The user.", None),
    "users": Rule("The users, newest first.", None),
    "UserShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["user_id"], _ID),
    "UserShown.alias": Rule("The email.", "ada@example.com", _EMAIL),
    "UserShown.name": Rule("The email.", "ada@example.com", _EMAIL),
    "email": Rule("The address, unique in the organization however it is spelt.", "ada@example.com", _EMAIL),
    "display_name": Rule(
        "What the user is called.", "Ada", {"maxLength": 128, "pattern": r"^[^\u0000-\u001f\u007f]*$"}
    ),
    "role": Rule(
        "What the user may do in the dashboard.", "developer", {"enum": ["owner", "admin", "developer", "viewer"]}
    ),
    "UserShown.state": Rule("A user who has no password yet is invited.", "invited", {"enum": ["invited", "active"]}),
    "password": Rule(
        "The password, counted as it is composed (NFC). It is never shown.",
        "correct horse battery",
        {"minLength": 8, "maxLength": 256},
    ),
    "invite": Rule("Whether to make a new invitation. The one before is void then.", True),
    "invitation": Rule("The invitation, once.", None),
    "InvitationShown.url": Rule("What to send to the user.", "https://discue.example.com/v1/invitations#mJ3uV9aY"),
    "token": Rule("What accepts the invitation.", "mJ3uV9aYc1RzK7wXq5LdT0nE2bGhP8sF"),
    "InvitationShown.expires_at": Rule(
        "Until when it can be accepted, in milliseconds since the epoch.", 1_893_456_000_000, _INSTANT
    ),
    "domain": Rule("The domain.", None),
    "domains": Rule("The domains, newest first.", None),
    "DomainShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["domain_id"], _ID),
    "hostname": Rule("A DNS name, and no address.", "shop.example.com", {"minLength": 4, "maxLength": 253}),
    "port": Rule(
        "The port: 80 is asked over http, every other one over https.",
        443,
        {"anyOf": [{"enum": [80, 443]}, {"type": "integer", "minimum": 1_024, "maximum": 65_535}]},
    ),
    "challenge": Rule("What must be found on the domain.", None),
    "https": Rule("A file: `/<context_path>/<file_name>`, with exactly this content.", None),
    "file_content": Rule("What the file must hold.", "kVb2mXw0Q7tYc4RzLh9PdNfJ3sGa6Ue1Ki8ToBxCvWy"),
    "file_name": Rule("The name of the file.", "Zr5uQk8wYx2LmNc7VtBd3Hf9JgPs4Ea6"),
    "context_path": Rule("The path to the file, without outer slashes.", ".well-known/discue"),
    "HttpsChallenge.created_at": Rule(
        "When it was made, in milliseconds since the epoch.", 1_795_536_280_000, _INSTANT
    ),
    "HttpsChallenge.expires_at": Rule(
        "Until when the file can be found for the first time, in milliseconds since the epoch.",
        1_796_141_080_000,
        _INSTANT,
    ),
    "verification": Rule("Whether it was found.", None),
    "verified": Rule("Whether the domain is verified.", False),
    "verified_at": Rule("Since when, in milliseconds since the epoch; 0: it is not.", 0, _INSTANT),
    "checked_at": Rule("When the file was last looked for, in milliseconds since the epoch; 0: never.", 0, _INSTANT),
    "last_error": Rule("Why it was not found the last time; empty when it was, or was not looked for yet.", ""),
    "api_client": Rule("The organization.", None),
    "organization": Rule("The organization.", None),
    "api_clients": Rule("The organizations, newest first.", None),
    "organizations": Rule("The organizations, newest first.", None),
    "api_key": Rule("The API key.", None),
    "api_keys": Rule("The API keys, newest first.", None),
    "ApiKeyShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["api_key_id"], _ID),
    "status": Rule("Whether it is in use.", "enabled", _SWITCH),
    "ApiKeyBody.scopes": Rule(
        f"{_SCOPES_TEXT} Older clients send a list. Not through the API: {', '.join(sorted(PROTECTED))}.",
        {"messages": {"access": "read"}},
        _SCOPES_SENT,
    ),
    "scopes": Rule(_SCOPES_TEXT, {"messages": {"access": "read", "targets": []}}, _SCOPES_SHOWN),
    "expires_at": Rule(
        "From when on the key is refused, in milliseconds since the epoch; 0: never.", 1_893_456_000_000, _INSTANT
    ),
    "ApiKeyShown.expires_at": Rule(
        "From when on the key is refused, in milliseconds since the epoch; 0: never.", 0, _INSTANT
    ),
    "last_used_at": Rule("When the key was last used, in milliseconds since the epoch; 0: never.", 0, _INSTANT),
    "key": Rule(
        "The whole key in the answer to its creation, its first characters afterwards.",
        "dsk_0VbuJFSC00bYtW1nQhRk7",
        {"pattern": "^dsk_[!-~]+$"},
    ),
    "queue": Rule("The queue.", None),
    "queues": Rule("The queues, newest first.", None),
    "queue_id": Rule("The id of the queue.", EXAMPLE_IDS["queue_id"], _ID),
    "retention": Rule(
        "Seconds that messages are kept after all listeners have settled them. Without it the service's setting holds.",
        86_400,
        {"minimum": 0, "maximum": 3_153_600_000},
    ),
    "max_message_bytes": Rule(
        "The size of the largest message. Without it the service's setting holds.",
        262_144,
        {"minimum": 1, "maximum": 8_388_608},
    ),
    "QueueBody.schema": Rule(_RULES_TEXT, _RULES_EXAMPLE, _RULES_LIMITS),
    "QueueBody.json_schema": Rule(_JSON_SCHEMA_TEXT, _JSON_SCHEMA_EXAMPLE, {"anyOf": [*_DOCUMENT, {"type": "null"}]}),
    "QueueShown.schema": Rule(_RULES_TEXT, _RULES_EXAMPLE, {"$ref": _RULES_PLACE}),
    "QueueShown.json_schema": Rule(_JSON_SCHEMA_TEXT, _JSON_SCHEMA_EXAMPLE, {"anyOf": _DOCUMENT}),
    "QueueShown.schema_id": Rule("The id of the schema.", EXAMPLE_IDS["schema_id"], _DIGEST),
    "QueueSchema.schema": Rule("The schema, as it was sent.", _RULES_EXAMPLE, {"anyOf": _DOCUMENT}),
    "QueueSchema.id": Rule("The SHA-256 of the schema's canonical JSON.", EXAMPLE_IDS["schema_id"], _DIGEST),
    "language": Rule("`rules` for a `schema` of the queue, `json_schema` for a `json_schema`.", "rules"),
    "QueueShown.listeners": Rule("The oldest 100 of its listeners.", None),
    "QueueShown.messages": Rule("What was published.", None),
    "published_count": Rule("How many messages were published so far.", 1, _COUNT),
    "last_published_at": Rule(
        "When the last one was, or a delayed one became due, in milliseconds since the epoch; 0: never.", 0, _INSTANT
    ),
    "listener": Rule("The listener.", None),
    "listeners": Rule("The listeners, newest first.", None),
    "listener_id": Rule("The id of the listener.", EXAMPLE_IDS["listener_id"], _ID),
    "ListenerShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["listener_id"], _ID),
    "Reference.id": Rule("The id.", EXAMPLE_IDS["listener_id"], _ID),
    "notify_url": Rule(
        "Where messages are sent: http or https, no credentials, no fragment. None in the mode `pull`.",
        "https://example.com/notify",
        _URL,
    ),
    "liveness_url": Rule(
        "What is asked for whether the listener lives: http or https, no credentials, no fragment. None in the mode "
        "`pull`.",
        "https://example.com/live",
        _URL,
    ),
    "liveness": Rule("What probing the liveness URL says.", None),
    "Liveness.state": Rule("How the listener is.", "unknown", {"enum": ["unknown", "stable", "unstable", "inactive"]}),
    "success_count": Rule("How many probes succeeded.", 0, _COUNT),
    "failure_count": Rule("How many probes failed.", 0, _COUNT),
    "Liveness.last_success_at": Rule(
        "When a probe last succeeded, in milliseconds since the epoch; 0: never.", 0, _INSTANT
    ),
    "Liveness.last_failure_at": Rule(
        "When a probe last failed, in milliseconds since the epoch; 0: never.", 0, _INSTANT
    ),
    "last_failure_status": Rule(
        "What the last probe that failed was answered with; 0 when no answer was read, and before there was one.",
        0,
        {"minimum": 0, "maximum": 999},
    ),
    "last_failure_msg": Rule("Why the last probe that failed did; empty when none has.", "answered 503"),
    "ListenerShown.messages": Rule("How its deliveries stand.", None),
    "acknowledged_count": Rule("How many messages it has acknowledged.", 1, _COUNT),
    "missed": Rule(
        "The ids of messages that it has missed, newest first.",
        [],
        {"maxItems": 100, "items": {"type": "string", **_ID}},
    ),
    "missed_count": Rule("How many messages it has missed.", 0, _COUNT),
    "pending_count": Rule("How many messages wait for it.", 0, _COUNT),
    "last_success_at": Rule("When an attempt last succeeded, in milliseconds since the epoch; 0: never.", 0, _INSTANT),
    "last_failure_at": Rule("When an attempt last failed, in milliseconds since the epoch; 0: never.", 0, _INSTANT),
    "secret": Rule("What deliveries are signed with: in the answer to the creation alone.", _SECRET_EXAMPLE, _SECRET),
    "Secret.secret": Rule("The signing secret.", None),
    "secrets": Rule("The signing secrets, newest first.", None),
    "secret_id": Rule("The id of the signing secret.", EXAMPLE_IDS["secret_id"], _ID),
    "SecretShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["secret_id"], _ID),
    "SecretShown.type": Rule(
        "How it signs: `hmac` makes signatures of the version `v1`, `ed25519` of `v1a`.", "hmac", _SECRET_TYPE
    ),
    "SecretShown.expires_at": Rule(
        "When it ends, in milliseconds since the epoch; 0: when it is ended.", 1_795_622_680_000, _INSTANT
    ),
    "SecretShown.secret": Rule(
        "The secret itself, of the type `hmac`: in the answer to the creation alone.", _SECRET_EXAMPLE, _SECRET
    ),
    "fingerprint": Rule(
        "The first 16 hexadecimal digits of the SHA-256 of the secret's text, or of the public key's.",
        "0123456789abcdef",
        {"pattern": "^[0-9a-f]{16}$"},
    ),
    "public_key": Rule(
        "What signatures of the type `ed25519` are verified with.",
        "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        {"pattern": "^whpk_[A-Za-z0-9+/]{43}=$"},
    ),
    "SecretBody.type": Rule(
        "How it is to sign: `hmac` (a shared secret, without a word about it) or `ed25519` (a key pair).",
        "hmac",
        _SECRET_TYPE,
    ),
    "SecretBody.secret": Rule(
        "A secret of one's own: `whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and that of a private key of "
        "Ed25519 (32 bytes, or 64 with the public key). Without one, the service makes it.",
        _SECRET_EXAMPLE,
        {"pattern": "^whs(?:ec|k)_[A-Za-z0-9+/]+=*$"},
    ),
    "expire_previous_in": Rule(
        "After how many seconds the older ones of its type end: a day without a word about it; 0: at once.",
        3_600,
        {"minimum": 0, "maximum": 604_800},
    ),
    "Missed.missed": Rule("What the listener has missed, newest first.", None),
    "MissedShown.id": Rule("The id of the message.", EXAMPLE_IDS["message_id"], _ID),
    "MissedShown.alias": Rule("The name of the message; its id where none was given.", "order-17", _NAME),
    "MissedShown.name": Rule("A synonym of `alias`.", "order-17", _NAME),
    "MissedShown.stored_at": Rule(
        "When the message was stored, in milliseconds since the epoch.", 1_795_536_280_000, _INSTANT
    ),
    "missed_at": Rule("When it was missed, in milliseconds since the epoch.", 1_795_795_480_000, _INSTANT),
    "MissedShown.reason": Rule(
        "Why: no attempt is left, the message expired, its answer was final, none more was wanted, or too old.",
        "attempts_used_up",
        _REASON,
    ),
    "MissedFilter.reason": Rule("Only what was missed for this reason.", "too_old", _REASON),
    "MissedFilter.created_after": Rule(
        "Only messages stored later than this, in milliseconds since the epoch.", 1_795_536_280_000, _TIME
    ),
    "MissedFilter.created_before": Rule(
        "Only messages stored earlier than this, in milliseconds since the epoch.", 1_893_456_000_000, _TIME
    ),
    "RedeliveryBody.messages": Rule(
        "The ids of messages that the listener has missed.",
        [EXAMPLE_IDS["message_id"]],
        {"minItems": 1, "maxItems": 1_000},
    ),
    "filter": Rule("Chooses by what was missed; an empty one chooses everything.", {"reason": "too_old"}),
    "all": Rule("Chooses everything.", True),
    "pace": Rule("How many messages a second, at most.", 100, {"minimum": 1, "maximum": 10_000}),
    "dry_run": Rule("Whether to say only what would be chosen.", False),
    "redelivery": Rule("The redelivery.", None),
    "redeliveries": Rule("The redeliveries, newest first.", None),
    "RedeliveryShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["redelivery_id"], _ID),
    "RedeliveryShown.alias": Rule("The id.", EXAMPLE_IDS["redelivery_id"], _ID),
    "RedeliveryShown.name": Rule("The id.", EXAMPLE_IDS["redelivery_id"], _ID),
    "RedeliveryShown.state": Rule("How far it is.", "running", {"enum": ["waiting", "running", "done"]}),
    "counts": Rule("How many deliveries.", None),
    "selected": Rule("How many were chosen. Of those that stand alone no more than 100000 are counted.", 17, _COUNT),
    "redelivered": Rule("How many are due again, or were.", 16, _COUNT),
    "gone": Rule("How many were of messages that had been deleted.", 1, _COUNT),
    "ended_at": Rule("When it was done, in milliseconds since the epoch; 0: not yet.", 0, _INSTANT),
    "AskedRedelivery.dry_run": Rule("What would be chosen: there in place of the redelivery.", None),
    "first_message": Rule("The id of the oldest message; empty when there is none.", EXAMPLE_IDS["message_id"]),
    "last_message": Rule("The id of the newest message; empty when there is none.", EXAMPLE_IDS["message_id"]),
    "from_at": Rule(
        "The beginning: messages stored then or later, in milliseconds since the epoch.", 1_795_536_280_000, _TIME
    ),
    "from_message": Rule("The beginning: the id of the first message.", EXAMPLE_IDS["message_id"]),
    "until_at": Rule(
        "The end: messages stored then or earlier, in milliseconds since the epoch; now where no end is given.",
        1_893_456_000_000,
        _TIME,
    ),
    "until_message": Rule("The end: the id of the last message.", EXAMPLE_IDS["message_id"]),
    "replay": Rule("The replay.", None),
    "replays": Rule("The replays, newest first.", None),
    "ReplayShown.id": Rule("The id, given at creation.", EXAMPLE_IDS["replay_id"], _ID),
    "ReplayShown.alias": Rule("The id.", EXAMPLE_IDS["replay_id"], _ID),
    "ReplayShown.name": Rule("The id.", EXAMPLE_IDS["replay_id"], _ID),
    "ReplayShown.state": Rule("How far it is.", "running", {"enum": ["waiting", "running", "done"]}),
    "ReplayShown.counts": Rule("How many messages.", None),
    "ReplayCounts.selected": Rule(
        "How many places of the log are between its ends; also where a message is left out.", 17, _COUNT
    ),
    "delivered": Rule("How many were acknowledged.", 12, _COUNT),
    "ReplayCounts.failed": Rule("For how many no attempt is left.", 1, _COUNT),
    "ReplayCounts.expired": Rule("How many had expired, or were too old.", 0, _COUNT),
    "ReplayCounts.retrying": Rule("How many wait for another attempt.", 1, _COUNT),
    "ReplayCounts.remaining": Rule("How many may still come, at most.", 4, _COUNT),
    "AskedReplay.dry_run": Rule("What would be chosen: there in place of the replay.", None),
    "message": Rule("The message.", None),
    "messages": Rule("The messages, newest first.", None),
    "BatchBody.messages": Rule(
        "The messages, in order.", [{"data": "one"}, {"data": "two"}], {"minItems": 1, "maxItems": 1_000}
    ),
    "MessageShown.id": Rule("The id, given at its publication.", EXAMPLE_IDS["message_id"], _ID),
    "MessageShown.alias": Rule("The name, which need not be unique; its id where none was given.", "order-17", _NAME),
    "MessageShown.name": Rule("A synonym of `alias`.", "order-17", _NAME),
    "MessageBody.data": Rule(
        "What is delivered: a string, or any other JSON value, which is kept as its text.", {"order": 17}
    ),
    "data": Rule("What is delivered.", '{"order": 17}'),
    "deliveries": Rule("How it stands with the oldest 100 listeners.", None),
    "DeliveryShown.state": Rule(
        "How the delivery stands. `filtered`: the listener's filter did not let it through.",
        "acknowledged",
        {"enum": ["acknowledged", "pending", "retrying", "missed", "filtered"]},
    ),
    "attempts": Rule("How many attempts were made.", 1, _COUNT),
    "last_status": Rule("The status of the last answer; 0 where none was read.", 200, {"minimum": 0, "maximum": 999}),
    "ServiceShown.name": Rule("What this is.", "discue", {"const": "discue"}),
    "version": Rule("The program's version.", "0.1.0"),
    "Health.status": Rule("How the service is.", "ready", {"enum": ["live", "ready"]}),
    "aggregated_api_usage_events": Rule("How many events of each type there were.", None),
    "last_24_hours": Rule("Within the last 24 hours.", None),
    "last_1_hours": Rule("Within the last hour.", None),
    "today_so_far": Rule("Since midnight UTC.", None),
    "api_key_added": Rule("How many API keys were created.", 1, _COUNT),
    "api_key_updated": Rule("How many API keys were changed.", 1, _COUNT),
    "api_key_deleted": Rule("How many API keys were deleted.", 1, _COUNT),
    "queue_added": Rule("How many queues were created.", 1, _COUNT),
    "queue_updated": Rule("How many queues were changed.", 1, _COUNT),
    "queue_deleted": Rule("How many queues were deleted.", 1, _COUNT),
    "listener_added": Rule("How many listeners were created.", 1, _COUNT),
    "listener_updated": Rule("How many listeners were changed.", 1, _COUNT),
    "listener_deleted": Rule("How many listeners were deleted.", 1, _COUNT),
    "message_added": Rule("How many messages were published.", 17, _COUNT),
    "message_published_ok": Rule("How many attempts were acknowledged.", 16, _COUNT),
    "message_published_not_ok": Rule("How many attempts failed.", 1, _COUNT),
    "events": Rule("What happened.", None),
    "EventShown.type": Rule("What happened.", "queue_added", {"pattern": "^[a-z_]+$"}),
    "EventShown.id": Rule("The id of the event.", "0VbuJFW500I0yWwoGXXf7", _ID),
    "EventSubject.id": Rule("Its id.", EXAMPLE_IDS["queue_id"], {}),
    "EventSubject.name": Rule("What it was called then.", "orders", {}),
    "EventShown.message": Rule("The message.", {"id": EXAMPLE_IDS["message_id"], "name": "order-17"}),
    "stored_at": Rule("When it happened, in milliseconds since the epoch.", 1_795_536_280_000, _INSTANT),
    "client": Rule("The organization.", None),
    "api_key_id": Rule("The id of the key that did it.", EXAMPLE_IDS["api_key_id"], _ID),
    "EventShown.user": Rule("The user.", None),
    "address": Rule("The client's address.", None),
    "limits": Rule("What the key and its organization may come to.", None),
    "RateShown.limit": Rule(
        "Requests a minute; 2147483647 stands for any number.", 60_000, {"minimum": 0, "maximum": 2_147_483_647}
    ),
    "remaining": Rule("Requests that are left in this window.", 59_999, {"minimum": 0, "maximum": 2_147_483_647}),
    "reset_at": Rule("When the window ends, in milliseconds since the epoch.", 1_795_536_300_000, _INSTANT),
    "quotas": Rule("How much the organization may have. Set by the operator.", None),
    "LimitsShown.rate_limit": Rule("The key's requests.", None),
    "QuotasUsed.queues": Rule("Queues.", None),
    "QuotasUsed.listeners": Rule("Listeners of all queues.", None),
    "QuotasBody.queues": Rule("How many queues it may have.", 100, _quota("queues")),
    "QuotasBody.listeners": Rule("How many listeners it may have.", 1_000, _quota("listeners")),
    "QuotasShown.queues": Rule("How many queues it may have.", 100, _COUNT),
    "QuotasShown.listeners": Rule("How many listeners it may have.", 1_000, _COUNT),
    "QuotasUsed.messages_a_day": Rule("Messages, by days of UTC.", None),
    "QuotasUsed.bytes_stored": Rule("What messages take, in bytes.", None),
    "messages_a_day": Rule("How many messages it may publish a day (by UTC).", 1_000_000, _quota("messages_a_day")),
    "bytes_stored": Rule("How many bytes its messages may take.", 10_737_418_240, _quota("bytes_stored")),
    "QuotaShown.limit": Rule("The quota; null where there is none.", 100, _COUNT),
    "used": Rule("What is used of it.", 3, _COUNT),
    "LimitsShown.retention": Rule("Seconds that messages of queues without a retention are kept.", 604_800, _COUNT),
    "max_batch_messages": Rule("Messages of a batch.", 1_000, _COUNT),
    "max_batch_bytes": Rule("The size of a batch.", 8_388_608, _COUNT),
    "max_per_page": Rule("Elements of a page.", 100, _COUNT),
    "OrganizationBody.retention": Rule(
        "Seconds that messages are kept in queues that say nothing of it. Set by the operator.",
        604_800,
        {"minimum": 0, "maximum": 3_153_600_000},
    ),
    "openapi": Rule("The version of OpenAPI.", "3.1.0"),
    "info": Rule("What this describes.", {"title": "discue", "version": "0.1.0"}),
    "servers": Rule("Where it is.", [{"url": "https://discue.example.com/v1"}]),
    "tags": Rule("The groups of operations.", []),
    "paths": Rule("The operations.", {}),
    "components": Rule("What several operations have.", {}),
    "Problem.type": Rule("A page about this status.", "https://discue.example.com/docs/errors/404"),
    "Problem.title": Rule("The status in words.", "Not Found"),
    "Problem.status": Rule("The status of the response.", 404, {"minimum": 400, "maximum": 599}),
    "Problem.request_id": Rule(
        "The request's id, also in `X-Request-Id`.", "5a1f0c9e-1", {"pattern": "^[A-Za-z0-9._-]{1,128}$"}
    ),
    "detail": Rule("What is wrong, and what helps.", "There is nothing at this address."),
    "errors": Rule("The places that are wrong.", []),
    "Place.pointer": Rule("A JSON pointer into the body, or `?` and a parameter's name.", "/alias"),
    "Place.detail": Rule("What would be right.", "is taken"),
}

ONE_OF: Final[Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]]] = {
    "RedeliveryBody": (("messages", {"type": "array"}), ("filter", {"type": "object"}), ("all", {"const": True})),
    "FilterTestBody": (("message_id", {"type": "string"}), ("data", {})),
    "ReplayBody": (("from_at", {"type": "integer"}), ("from_message", {"type": "string"})),
}
"""Fields of which a struct needs one, and no more than one, with a value of this kind: any other asks for nothing."""


_TABLES: Final = (
    RULES,
    delivery_rules.RULES,
    attempt_rules.RULES,
    pull_rules.RULES,
    schedule_rules.RULES,
    topic_rules.RULES,
)


def rule_of(struct: str, field: str) -> Rule | None:
    """The rule of a field by its name in JSON: its struct's own, or the one that it has everywhere."""
    named = (table.get(name) for name in (f"{struct}.{field}", field) for table in _TABLES)
    return next((rule for rule in named if rule is not None), None)

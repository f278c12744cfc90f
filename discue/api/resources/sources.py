"""`/sources`: endpoints for the webhooks of other services, and the requests that they refused."""

from functools import partial
from typing import Annotated, ClassVar, Final

from msgspec import UNSET, UnsetType

from discue.api.pagination import PAGES
from discue.api.resource import ResourceKind, fields_of, paged, response_of, view_of
from discue.api.route import GET, Call, Needs, Route
from discue.api.structs import (
    ALIAS_PATTERN,
    EXAMPLE_IDS,
    ItemView,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    read_only,
    text_given,
)
from discue.control import sources
from discue.control.sources import MAX_PREFIX_CHARACTERS, MAX_SECRET_CHARACTERS, MAX_SECRETS, SourceFields
from discue.domain import model
from discue.domain.headers import NAME_PATTERN
from discue.domain.providers import ALGORITHMS, ENCODINGS, PROVIDERS
from discue.domain.reservations import PAGE
from discue.http.pipeline import SOURCES

_PROVIDER: Final = doc("The service whose webhooks it receives; `hmac` for others.", "stripe", enum=list(PROVIDERS))
_QUEUE: Final = "of the queue that it publishes to."
_SECRETS: Final = doc(
    f"The provider's signing secrets, at most {MAX_SECRETS}. Each of them is accepted, so that one can be replaced "
    "without refusing requests. Responses never contain them.",
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    minItems=1,
    maxItems=MAX_SECRETS,
    items={"type": "string", "minLength": 1, "maxLength": MAX_SECRET_CHARACTERS},
)
_HEADER: Final = doc("`hmac`: the header with the signature.", "x-signature", pattern=NAME_PATTERN)
_ALGORITHM: Final = doc("`hmac`: the hash function. Default: sha256.", "sha256", enum=list(ALGORITHMS))
_ENCODING: Final = doc("`hmac`: the encoding of the signature. Default: hex.", "hex", enum=list(ENCODINGS))
_PREFIX: Final = doc("`hmac`: the text before the signature.", "sha256=", maxLength=MAX_PREFIX_CHARACTERS)
_TIMESTAMP_HEADER: Final = doc(
    "`hmac`: the header with the Unix time in seconds. With it, the signature covers the time, a dot and the body.",
    "x-timestamp",
    pattern=NAME_PATTERN,
)
_ID_HEADER: Final = doc("`hmac`: the header with the id of the event.", "x-event-id", pattern=NAME_PATTERN)


@read_only("url", "refused", "refused_at")
class SourceBody(NamedBody, kw_only=True):
    """A source to create, or the changes to one."""

    sample: ClassVar = {
        "alias": "payments",
        "provider": "stripe",
        "queue_id": EXAMPLE_IDS["queue_id"],
        "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    }

    provider: Annotated[str | UnsetType, _PROVIDER] = UNSET
    queue_id: Annotated[
        str | UnsetType, doc(f"Id or alias {_QUEUE}", EXAMPLE_IDS["queue_id"], pattern=ALIAS_PATTERN)
    ] = UNSET
    secrets: Annotated[list[str] | UnsetType, _SECRETS] = UNSET
    header: Annotated[Text, _HEADER] = UNSET
    algorithm: Annotated[Text, _ALGORITHM] = UNSET
    encoding: Annotated[Text, _ENCODING] = UNSET
    prefix: Annotated[Text, _PREFIX] = UNSET
    timestamp_header: Annotated[Text, _TIMESTAMP_HEADER] = UNSET
    id_header: Annotated[Text, _ID_HEADER] = UNSET


class SourceView(View, kw_only=True, frozen=True):
    """A source."""

    id: Annotated[str, id_doc("source_id")]
    provider: Annotated[str, _PROVIDER]
    queue_id: Annotated[str, id_doc("queue_id", f"The id {_QUEUE}")]
    url: Annotated[
        str, doc("The URL for the provider's settings.", f"https://discue.example.com/in/{EXAMPLE_IDS['source_id']}")
    ]
    refused: Annotated[int, doc("The number of requests that it has refused.", 0, minimum=0)]
    refused_at: Annotated[int, instant_doc("When it last refused a request; 0: never")]
    header: Annotated[str | UnsetType, _HEADER] = UNSET
    algorithm: Annotated[str | UnsetType, _ALGORITHM] = UNSET
    encoding: Annotated[str | UnsetType, _ENCODING] = UNSET
    prefix: Annotated[str | UnsetType, _PREFIX] = UNSET
    timestamp_header: Annotated[str | UnsetType, _TIMESTAMP_HEADER] = UNSET
    id_header: Annotated[str | UnsetType, _ID_HEADER] = UNSET


class RefusalView(ItemView, kw_only=True, frozen=True):
    """A refused request to a source, without its body."""

    id: Annotated[str, id_doc("message_id", "The id of the refused request.")]
    reason: Annotated[
        str,
        doc(
            "Why it was refused: the `code` of the response.",
            "signature_wrong",
            enum=list(model.REFUSALS),
        ),
    ]
    detail: Annotated[str, doc("The reason in a sentence.", "The header webhook-id is missing or malformed.")]
    headers: Annotated[
        dict[str, str],
        doc("Its headers, up to 2,048 characters, without credentials.", {"content-type": "application/json"}),
    ]
    created_at: Annotated[int, instant_doc("When it arrived")]


_Refusals: Final = response_of("refusals", list[RefusalView], "The refused requests, newest first.")


def _fields(call: Call) -> SourceFields:
    return fields_of(call, SourceFields, queue=text_given(call.body.queue_id))


def _view(call: Call, source: model.WebhookSource) -> SourceView:
    url = f"{call.root}/{SOURCES}/{source.public_id}"
    own = (source,) if source.hmac is None else (source, source.hmac)
    return view_of(SourceView, *own, url=url)


async def refusals(call: Call) -> _Refusals:  # type: ignore[valid-type]
    """List the requests that a source refused. The last 100, without bodies. A request is listed within seconds."""
    fetch = partial(sources.refused_page, call.control, call.principal, call.ids[0])
    return await paged(
        call, _Refusals, fetch, lambda each: view_of(RefusalView, each, headers=dict(each.headers)), links_items=False
    )


_SOURCES: Final = ResourceKind[model.WebhookSource](
    path="/sources",
    name="source",
    view_type=SourceView,
    view=_view,
    needs=Needs.of("channels"),
    body=SourceBody,
    fields=_fields,
    codes=("alias_taken", "unknown_reference", "conflicting_fields", "system_queue_read_only", "secrets_unreadable"),
)

ROUTES = (
    _SOURCES.list_route(sources.page, "List sources."),
    _SOURCES.create_route(
        sources.create,
        "Create a source. Enter its `url` in the settings of the provider.",
        *("quota_exceeded", "too_many"),
        required=("provider", "queue_id", "secrets"),
    ),
    _SOURCES.get_route(sources.get, "Get a source. The response does not contain its secrets."),
    _SOURCES.change_route(sources.change, "Change a source.", example={"alias": "payments-eu"}),
    _SOURCES.delete_route(sources.delete, "Delete a source. Messages that it has published stay in the queue."),
    Route(GET, "/sources/{source_id}/refusals", refusals, Needs("channels", "read"), query=PAGES, reads=PAGE),
)

"""Resources of the API: one declaration of a kind, from which its routes, responses and links follow."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from discue.api.idempotency import created
from discue.api.pagination import PAGES, Parameter, selected
from discue.api.route import CREATE, DELETE, GET, PUT, SMALL_BODY, BodyLimit, Call, Handler, Method, Needs, Route
from discue.api.structs import ApiResponse, Body, DeletedResponse, ItemView, Link, Links, NoBody, doc
from discue.control.context import ControlContext
from discue.domain.etags import version_of
from discue.domain.reservations import FEW_ROWS, PAGE, RESOURCE, PageBound, ReadBound
from discue.domain.scopes import Principal
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.time_slice import TimeSlice

T = TypeVar("T")
R = TypeVar("R", bound=ApiResponse)
V = TypeVar("V", bound=msgspec.Struct)
F = TypeVar("F", bound=msgspec.Struct)

# Reserved even in responses without such a page: a client that follows `next` must not arrive at a queue of that name.
_RESERVED_LINKS: Final = frozenset({"self", "next", "prev"})


@cache
def _attributes_of(
    view_type: type[msgspec.Struct], *kinds: type
) -> Sequence[tuple[str, Sequence[tuple[int, str]], bool]]:
    """Return each field of a view, the attributes of sources that it can show, and whether it can be omitted.

    An attribute comes with the place of its source.
    """
    public = {name: f"{name.removesuffix('_id')}_public_id" for name in view_type.__struct_fields__}
    public |= {"id": "public_id", "name": "alias"}
    places = range(len(kinds))
    return [
        (
            each.name,
            [(i, name) for i in places for name in (public[each.name], each.name) if hasattr(kinds[i], name)],
            each.default is UNSET,
        )
        for each in msgspec.structs.fields(view_type)
    ]


def view_of(view_type: type[V], *sources: object, **fields: Any) -> V:
    """Return a view. Fields that are not given come from the first source that has an attribute of the same name.

    `id` is the public id, a field such as `queue_id` is the public id of another resource, and `name` is the alias.
    An optional field is omitted if its attribute is None or an empty string.
    """
    # Lists make hundreds of views, so what the types decide is looked up once.
    for name, attributes, is_optional in _attributes_of(view_type, *map(type, sources)):
        if name in fields:
            continue
        for place, attribute in attributes:
            value = getattr(sources[place], attribute)
            if value is not UNSET:
                is_empty = value is None or value == ""
                if not (is_optional and is_empty):
                    fields[name] = value
                break
    return view_type(**fields)


def fields_of(call: Call, kind: type[F], **fields: Any) -> F:
    """Return the fields of a resource from a request. Fields that are not given come from the body."""
    alias, name = call.names()
    return sent_fields(call.body, kind, alias=alias, name=name, **fields)


def sent_fields(body: Body, kind: type[F], **fields: Any) -> F:
    """Return fields that a body has under the same names, except for those that are given."""
    sent = {each: getattr(body, each) for each in kind.__struct_fields__ if hasattr(body, each)}
    return kind(**{**sent, **fields})


def or_unset(value: T | None) -> T | UnsetType:
    """Return the value; UNSET, which omits the field, for None."""
    return UNSET if value is None else value


class LinkTarget(NamedTuple):
    """A sub-resource that a response links to."""

    alias: str
    id: str
    url: str


def links_of(
    url: str, below: Iterable[LinkTarget] = (), *, following: str | None = None, preceding: str | None = None
) -> Links:
    """Return `self`, `next` and `prev`, then one entry for each of `below`.

    An entry is keyed by its alias, or by its id if that key is taken: `self`, `next` and `prev` always are, and earlier
    entries win over later ones.
    """
    # A page link must win over an item with the alias `next`: clients follow it without looking at its URL.
    links = {"self": Link(url)}
    if following is not None:
        links["next"] = Link(following)
    if preceding is not None:
        links["prev"] = Link(preceding)
    for entry in below:
        taken = entry.alias in links or entry.alias in _RESERVED_LINKS
        links.setdefault(entry.id if taken else entry.alias, Link(entry.url))
    return links


@cache
def response_of(name: str, kind: object, description: str) -> type[ApiResponse]:
    """Return the struct of a response with one member besides its links."""
    return msgspec.defstruct(  # type: ignore[return-value]
        f"{name.title().replace('_', '')}Response",
        [(name, Annotated[kind, doc(description)])],
        bases=(ApiResponse,),
        kw_only=True,
        frozen=True,
    )


def by_path(function: Callable[..., T]) -> Callable[..., T]:
    """Adapt a function of the control plane that takes the first two ids, those of the parent, as one argument."""

    def adapted(control: ControlContext, principal: Principal, first: str, second: str, *rest: Any) -> T:
        return function(control, principal, (first, second), *rest)

    return adapted


@dataclass(kw_only=True)
class ResourceKind(Generic[T]):
    """A kind of resource. `T` is the type of one in the control plane."""

    path: str
    """The path of the collection, which ends in the name of the kind."""
    name: str
    """The name of the member of responses that has the resource."""
    noun: str = ""
    """The name of the kind in prose, if it is not `name`."""
    view_type: type[ItemView]
    view: Callable[[Call, T], ItemView] | None = None
    """Returns the view of a resource in lists; None for `view_of`."""
    stored: Callable[[T], msgspec.Struct] = lambda shown: shown  # type: ignore[assignment,return-value]
    """Returns everything that requests can change in a resource. The ETag is its version."""
    below: str = ""
    """The sub-collection that responses link to. The view has a field of its name, with references."""
    needs: tuple[Needs, Needs, Needs]
    """The scopes to read, to list and to write."""
    body: type[Body] = NoBody
    fields: Callable[[Call], object] = lambda _: None
    """Returns the fields of a resource in a request, or a coroutine that does."""
    codes: tuple[str, ...] = ()
    """Codes of errors about these fields."""
    limit: BodyLimit | int = SMALL_BODY
    reads: ReadBound = RESOURCE
    id_name: str = ""
    """The name of an id in paths, unless it follows from `name`."""
    own_response: type[ApiResponse] | None = None
    """The struct of a response with one resource, if that has other members, too."""
    response: type[ApiResponse] = field(init=False)
    page_response: type[ApiResponse] = field(init=False)

    def __post_init__(self) -> None:
        noun = self.noun or self.name.replace("_", " ")
        plural = self.path.rpartition("/")[2]
        nouns = f"{noun[:-1]}ies" if plural.endswith("ies") else f"{noun}s"
        self.item = f"{self.path}/{{{self.id_name or f'{self.name}_id'}}}"
        """The path of one resource."""
        self.response = self.own_response or response_of(self.name, self.view_type, f"The {noun}.")
        self.page_response = response_of(plural, list[self.view_type], f"The {nouns}, newest first.")  # type: ignore[name-defined]

    def one(self, call: Call, item: T, **fields: Any) -> ApiResponse:
        """Return the response with one resource, and its ETag. `fields` of its view are not shown in lists."""
        view = self._view(call, item)
        if fields:
            view = replace(view, **fields)
        url = call.url_of(view.id)
        references = getattr(view, self.below) if self.below else ()
        below = (LinkTarget(each.alias, each.id, f"{url}/{self.below}/{each.id}") for each in references)
        member: dict[str, Any] = {self.name: view}
        # A response that shows one resource has an ETag.
        call.version = version_of(self.stored(item))
        return self.response(links=links_of(url, below), **member)

    def list_route(
        self,
        page: Callable[..., Awaitable[Listing[T]]],
        text: str,
        query: tuple[Parameter, ...] = PAGES,
        *,
        path: str = "",
        collection: Callable[[T], str] | None = None,
        codes: tuple[str, ...] = (),
        reads: PageBound = PAGE,
    ) -> Route:
        """Return the route of a list, which `text` documents.

        `path` is that of a list of all resources: then, `collection` returns the path of the collection of each.
        """

        async def handle(call: Call) -> ApiResponse:
            fetch = partial(page, call.control, call.principal, *call.ids)
            place = None if collection is None else lambda item: f"{call.base}{collection(item)}"
            return await paged(call, self.page_response, fetch, partial(self._view, call), collection=place)

        row = {"response": self.page_response, "codes": codes, "query": query, "reads": reads}
        return self._route(GET, path or self.path, handle, text, needs=self.needs[1], **row)

    def create_route(
        self,
        create: Callable[..., Awaitable[Any]],
        text: str,
        *codes: str,
        respond: Callable[[Call, Any], ApiResponse] | None = None,
        **row: Any,
    ) -> Route:
        """Return the route that creates a resource. `respond` makes the response of what `create` returns."""

        async def handle(call: Call) -> ApiResponse:
            fields, ids = await self._fields(call), call.ids
            return await created(
                call, lambda control: create(control, call.principal, *ids, fields), respond or self.one
            )

        row = {"methods": CREATE, "needs": self.needs[2], **row}
        return self._writing_route(self.path, handle, text, codes, **row)

    def get_route(
        self,
        get: Callable[..., Awaitable[Any]],
        text: str,
        *codes: str,
        respond: Callable[[Call, Any], ApiResponse] | None = None,
    ) -> Route:
        """Return the route to one resource. `respond` makes the response of what `get` returns."""

        async def handle(call: Call) -> ApiResponse:
            return (respond or self.one)(call, await get(call.control, call.principal, *call.ids))

        return self._route(GET, self.item, handle, text, needs=self.needs[0], codes=codes)

    def change_route(
        self,
        change: Callable[..., Awaitable[Any]],
        text: str,
        *codes: str,
        respond: Callable[[Call, Any], ApiResponse] | None = None,
        **row: Any,
    ) -> Route:
        """Return the route that changes a resource. `respond` makes the response of what `change` returns."""

        async def handle(call: Call) -> ApiResponse:
            fields = await self._fields(call)
            changed = await change(call.control, call.principal, *call.ids, fields=fields)
            return (respond or self.one)(call, changed)

        return self._writing_route(self.item, handle, text, codes, methods=PUT, needs=self.needs[2], **row)

    def delete_route(
        self, delete: Callable[..., Awaitable[None]], text: str, *codes: str, reads: ReadBound = FEW_ROWS
    ) -> Route:
        async def handle(call: Call) -> DeletedResponse:
            await delete(call.control, call.principal, *call.ids)
            return DeletedResponse(links=call.links())

        row = {"response": DeletedResponse, "codes": codes, "reads": reads}
        return self._route(DELETE, self.item, handle, text, needs=self.needs[2], **row)

    def _view(self, call: Call, item: T) -> ItemView:
        return view_of(self.view_type, item) if self.view is None else self.view(call, item)

    async def _fields(self, call: Call) -> object:
        fields = self.fields(call)
        return await fields if inspect.isawaitable(fields) else fields

    def _writing_route(
        self, path: str, handle: Handler, text: str, codes: tuple[str, ...], *, methods: tuple[Method, ...], **row: Any
    ) -> Route:
        row = {"codes": (*codes, *self.codes), "limit": self.limit, **row}
        return self._route(methods, path, handle, text, request=self.body, **row)

    def _route(self, methods: tuple[Method, ...], path: str, handle: Handler, text: str, **row: Any) -> Route:
        handle.__doc__ = text
        return Route(methods, path, handle, **{"response": self.response, "reads": self.reads, **row})


async def paged(
    call: Call,
    response: type[R],
    fetch: Callable[[Selection], Awaitable[Listing[T]]],
    view: Callable[[T], Any],
    *,
    collection: Callable[[T], str] | None = None,
    links_items: bool = True,
) -> R:
    """Return the page that a request selects: its views in the only field of the response besides its links.

    Adds the Link header (RFC 8288). `collection` returns the URL below which an item is found, if that is not the
    request's. Items without a URL have no links. Raises BadRequest.
    """
    given = selected(call.scope.query_string, call.parameters)
    fields = {parameter.name: parameter.field or parameter.name for parameter in call.parameters}
    # `after` and `before` name items, not offsets: a page does not shift when newer items are added or others deleted.
    listing = await fetch(Selection(**{fields[name]: value for name, value in given.items()}))
    views, time_slice = [], TimeSlice()
    for item in listing.items:
        views.append(view(item))
        # A view may take long: that of a schedule has its next runs.
        await time_slice.pause_if_over()
    urls = [call.url if collection is None else collection(item) for item in listing.items]
    below = [
        LinkTarget(getattr(shown, "alias", shown.id), shown.id, f"{url}/{shown.id}")
        for shown, url in zip(views, urls, strict=True)
    ]
    # A filtered scan that stops early continues where it stopped, which need not be at an item that it found.
    after = listing.resumes_after or (below[-1].id if below and listing.has_next else None)
    before = listing.resumes_before or (below[0].id if below and listing.has_previous else None)
    following = call.url + _neighbour(given, "after", after) if after else None
    preceding = call.url + _neighbour(given, "before", before) if before else None
    own = f"{call.url}?{urlencode(given)}" if given else call.url
    links = links_of(own, below if links_items else (), following=following, preceding=preceding)
    header = ", ".join(f'<{links[name].href}>; rel="{name}"' for name in ("next", "prev") if name in links)
    if header:
        call.response_headers.append(("link", header))
    (items,) = set(response.__struct_fields__) - {"links"}
    members: dict[str, Any] = {items: views}
    return response(links=links, **members)


def _neighbour(given: Mapping[str, Any], side: str, position: str) -> str:
    """Return the query of a neighbouring page, with the same filters."""
    # A page number counts from the newest item. Together with an id it would skip items.
    filters = {name: value for name, value in given.items() if name not in {"per_page", "page", "after", "before"}}
    per_page = given.get("per_page", FIRST_PAGE.per_page)
    return f"?{urlencode({'per_page': per_page, side: position, **filters})}"

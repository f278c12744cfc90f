"""The service itself."""

import msgspec

from discue.api.wire.answer import Answer


class ServiceShown(Answer, kw_only=True, frozen=True):
    name: str
    version: str


class OpenApiDocument(msgspec.Struct, frozen=True):
    """This document."""

    openapi: str
    info: dict[str, object]
    servers: list[object]
    tags: list[object]
    paths: dict[str, object]
    components: dict[str, object]


class Health(Answer, kw_only=True, frozen=True):
    status: str

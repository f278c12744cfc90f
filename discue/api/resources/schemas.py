"""`/queues/{queue_id}/schemas/{schema_id}`."""

import msgspec

from discue.api import wire
from discue.api.links import link_to
from discue.api.route import Call, Needs, Route
from discue.control import queues
from discue.control.context import require_found


async def get(call: Call) -> wire.QueueSchema:
    queue_id, schema_id = call.ids
    queue = await queues.get_schema(call.control, call.principal, queue_id, schema_id)
    call.version = schema_id
    return wire.QueueSchema(
        schema=msgspec.Raw(require_found(queue.schema).encode()),
        id=schema_id,
        queue_id=queue_id,
        language=queue.schema_language,
        created_at=queue.schema_set_at,
        updated_at=queue.schema_set_at,
        links=link_to(call.url),
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/schemas/{schema_id}",
        handler=get,
        response=wire.QueueSchema,
        needs=Needs("schemas", "read"),
        statuses=(404,),
        summary="Get a schema",
        description="The queue's present schema, as it was sent. One that it had before is not found.",
    ),
)

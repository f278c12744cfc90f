"""Finding routes, and what a caller adds to the table."""

import msgspec
import pytest

from discue.api.resources.messages import MessageBody
from discue.api.route import Call, Needs, Route
from discue.api.router import Router
from discue.domain.errors import MethodNotAllowed, NotFound
from discue.domain.reservations import FEW_ROWS
from tests.support.served_api import cast_of, served

ID = "0" * 21


class Echo(msgspec.Struct):
    length: int


async def echo(call: Call) -> Echo:
    return Echo(len(call.body.data))


OPEN = Route(
    methods=("POST",), path="/echo", handler=echo, request=MessageBody, response=Echo, needs=None, reads=FEW_ROWS
)
GUARDED = Route(
    methods=("POST",),
    path="/queues/{queue_id}/echo",
    handler=echo,
    request=MessageBody,
    response=Echo,
    needs=Needs("messages", "write"),
    reads=FEW_ROWS,
)


def test_a_literal_step_wins_over_an_id_and_ids_come_in_order() -> None:
    found = Router([GUARDED, OPEN]).find("POST", f"/v1/queues/{ID}/echo")
    assert (found.ids, found.version, found.path) == ((ID,), "/v1", f"/queues/{ID}/echo")


def test_path_that_no_route_ends_at_is_404() -> None:
    router = Router([GUARDED])
    for path in ("/queues", f"/queues/{ID}", "/", "", "queues", f"/queues/{ID}/echo/"):
        with pytest.raises(NotFound):
            router.find("POST", path)


def test_another_method_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        Router([OPEN]).find("GET", "/echo")
    assert refused.value.allow == ("POST",)


def test_two_routes_for_one_method_and_path_are_an_error() -> None:
    with pytest.raises(ValueError, match="Two routes for POST /echo"):
        Router([OPEN, OPEN])


def test_a_route_that_a_caller_adds_is_served_and_guarded_like_any_other(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with served(tmp_path_factory.mktemp("added"), (OPEN, GUARDED)) as service:
        cast = cast_of(service)
        path = f"/queues/{cast.queue()}/echo"
        assert cast.nobody.post("/echo", json={"data": "abc"}).json() == {"length": 5}
        assert cast.nobody.post(path, json={"data": "abc"}).status_code == 401
        assert cast.bob({}).post(path, json={"data": "abc"}).status_code == 403
        assert cast.alice.post(path, json={"data": "abc"}).json() == {"length": 5}
        assert cast.alice.post(path, json={"data": "abc", "typo": 1}).status_code == 400

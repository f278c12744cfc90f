"""Parsing and granting of scopes, and the access of principals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.errors import BadRequest, DiscueError, Fault, Forbidden, Unprocessable
from discue.domain.scopes import (
    PRESETS,
    PROTECTED,
    RESOURCES,
    TARGETS_LIMIT,
    Access,
    Principal,
    Scope,
    Scopes,
    all_scopes,
    check_grant,
    default_grant,
    parse_scopes,
    preset_scopes,
    render_scopes,
)

ONE = "0OPFvCRRk3PdHdhfqKbcp"
TWO = "0OPFvCRRk3PdHdhfqKbcq"
SCHEMA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

ids = st.sampled_from([ONE, TWO, "0" * 21, "z" * 21, SCHEMA])
targets = st.one_of(st.just(()), st.just(("*",)), st.lists(ids, min_size=1, max_size=4).map(tuple))
accesses: st.SearchStrategy[Access] = st.sampled_from(["read", "write"])
scope_maps = st.dictionaries(st.sampled_from(RESOURCES), st.builds(Scope, accesses, targets))
small_maps = st.dictionaries(st.sampled_from(["queues", "messages"]), st.builds(Scope, accesses, targets))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([*RESOURCES, "read", "*", ONE]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*RESOURCES, "access", "targets", "resource", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def principal(scopes: Scopes) -> Principal:
    return Principal(1, "0" * 21, 2, "1" * 21, scopes, is_operator=False)


def refused(value: object, error: type[DiscueError]) -> tuple[Fault, ...]:
    with pytest.raises(error) as caught:
        parse_scopes(value)
    return caught.value.faults


def test_scopes_are_a_map_or_a_list() -> None:
    one = {"queues": {"access": "read", "targets": [TWO, ONE]}, "stats": {"access": "write"}}
    assert parse_scopes(one) == {"queues": Scope("read", (TWO, ONE)), "stats": Scope("write", ())}
    other = [{"resource": "queues", "access": "read", "targets": "*"}, {"resource": "messages", "targets": ONE}]
    assert parse_scopes(other) == {"queues": Scope("read", ("*",)), "messages": Scope("write", (ONE,))}


@pytest.mark.parametrize(
    ("sent", "rendered"),
    [
        ({}, []),
        ({"targets": []}, []),
        ({"targets": ""}, []),
        ({"targets": ["*"]}, ["*"]),
        ({"targets": "*"}, ["*"]),
        ({"targets": ONE}, [ONE]),
        ({"targets": [TWO, ONE, TWO]}, [TWO, ONE, TWO]),
        ({"targets": [SCHEMA]}, [SCHEMA]),
        ({"targets": ["*", ONE]}, ["*", ONE]),
        ({"targets": ["V1StGXR8_Z5jdHi6B-myT"]}, ["V1StGXR8_Z5jdHi6B-myT"]),
    ],
)
def test_targets_are_normalized_in_responses(sent: dict[str, object], rendered: list[str]) -> None:
    assert render_scopes(parse_scopes({"schemas": sent})) == {"schemas": {"access": "write", "targets": rendered}}


@pytest.mark.parametrize("nothing", [{}, []])
def test_empty_scopes_grant_nothing(nothing: object) -> None:
    assert parse_scopes(nothing) == {}


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ("queues", "/scopes"),
        (True, "/scopes"),
        (7, "/scopes"),
        ({"queues": "write"}, "/scopes/queues"),
        ({"queues": None}, "/scopes/queues"),
        ({"queues": ["read"]}, "/scopes/queues"),
        ({"queues": {"access": None}}, "/scopes/queues/access"),
        ({"queues": {"access": 1}}, "/scopes/queues/access"),
        ({"queues": {"targets": None}}, "/scopes/queues/targets"),
        ({"queues": {"targets": {"0": ONE}}}, "/scopes/queues/targets"),
        ({"queues": {"targets": [ONE, 5]}}, "/scopes/queues/targets/1"),
        ({"queues": {"targets": [[ONE]]}}, "/scopes/queues/targets/0"),
        ({"queues": {"acces": "read"}}, "/scopes/queues/acces"),
        ({"queues": {"a/b~c": 1}}, "/scopes/queues/a~1b~0c"),
        ({"queues": {"resource": "queues"}}, "/scopes/queues/resource"),
        (["queues"], "/scopes/0"),
        ([{"access": "read"}], "/scopes/0/resource"),
        ([{"resource": ["queues"]}], "/scopes/0/resource"),
        ([{"resource": "queues"}, {"resource": "stats", "target": ONE}], "/scopes/1/target"),
    ],
)
def test_wrong_types_and_unknown_fields_are_malformed(value: object, pointer: str) -> None:
    assert [fault.pointer for fault in refused(value, BadRequest)] == [pointer]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (None, "/scopes"),
        ({"queue": {}}, "/scopes/queue"),
        ({"": {}}, "/scopes/"),
        ({"queues": {"access": "admin"}}, "/scopes/queues/access"),
        ({"queues": {"access": "Write"}}, "/scopes/queues/access"),
        ({"queues": {"targets": "my.queue"}}, "/scopes/queues/targets/0"),
        ({"queues": {"targets": [ONE, "x" * 65]}}, "/scopes/queues/targets/1"),
        ({"queues": {"targets": ["**"]}}, "/scopes/queues/targets/0"),
        ({"queues": {"targets": [""]}}, "/scopes/queues/targets/0"),
        ({"queues": {"targets": [ONE] * (TARGETS_LIMIT + 1)}}, "/scopes/queues/targets"),
        ([{"resource": "queue"}], "/scopes/0/resource"),
        ([{"resource": "queues"}, {"resource": "queues"}], "/scopes/1/resource"),
    ],
)
def test_invalid_values_are_unprocessable(value: object, pointer: str) -> None:
    assert all(fault.pointer.startswith(pointer) for fault in refused(value, Unprocessable))


def test_thousand_targets_are_accepted() -> None:
    assert len(parse_scopes({"queues": {"targets": [ONE] * TARGETS_LIMIT}})["queues"].targets) == 1_000


def test_error_lists_at_most_100_invalid_places() -> None:
    faults = refused({"queues": {"access": "x", "targets": ["y!"]}, "stat": {}}, Unprocessable)
    assert {fault.pointer for fault in faults} == {
        "/scopes/queues/access",
        "/scopes/queues/targets/0",
        "/scopes/stat",
    }
    assert len(refused([7] * 10_000, BadRequest)) == 100


@given(scope_maps)
def test_rendered_scopes_are_parsed_unchanged(scopes: dict[str, Scope]) -> None:
    assert parse_scopes(render_scopes(scopes)) == scopes


@given(json_values)
def test_any_json_is_parsed_or_rejected_with_pointers(value: object) -> None:
    faults: tuple[Fault, ...] = ()
    scopes: dict[str, Scope] | None = None
    try:
        scopes = parse_scopes(value, "/x")
    except (BadRequest, Unprocessable) as error:
        faults = error.faults
    assert (scopes is None) == bool(faults)
    assert all(fault.pointer.startswith("/x") for fault in faults)
    assert set(scopes or ()) <= set(RESOURCES)


@pytest.mark.parametrize("resource", sorted(PROTECTED))
def test_protected_scope_is_never_granted(resource: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_grant({resource: Scope("read")}, all_scopes())
    assert caught.value.faults == (Fault(f"/scopes/{resource}", "is protected"),)


@pytest.mark.parametrize(
    ("requested", "held"),
    [
        (Scope("write"), Scope("read")),
        (Scope("read"), Scope("write", (ONE,))),
        (Scope("read", ("*",)), Scope("write", (ONE,))),
        (Scope("read", (ONE, TWO)), Scope("read", (ONE,))),
        (Scope("read"), None),
    ],
)
def test_key_cannot_grant_more_than_it_has(requested: Scope, held: Scope | None) -> None:
    granter = {"queues": held} if held is not None else {}
    with pytest.raises(Forbidden) as caught:
        check_grant({"queues": requested}, granter)
    assert caught.value.faults[0].pointer == "/scopes/queues"


@pytest.mark.parametrize(
    ("requested", "held"),
    [
        (Scope("read"), Scope("write", ("*",))),
        (Scope("write", ("*",)), Scope("write")),
        (Scope("write", (ONE,)), Scope("write")),
        (Scope("read", (ONE,)), Scope("read", (TWO, ONE))),
    ],
)
def test_key_can_grant_its_own_scopes(requested: Scope, held: Scope) -> None:
    check_grant({"queues": requested}, {"queues": held})


@given(
    requested=small_maps,
    granter=small_maps,
    resource=st.sampled_from(["queues", "messages"]),
    access=accesses,
    target=ids,
)
def test_granted_key_has_no_access_beyond_its_granter(
    requested: dict[str, Scope], granter: dict[str, Scope], resource: str, access: Access, target: str
) -> None:
    try:
        check_grant(requested, granter)
    except Forbidden:
        return
    child, parent = principal(requested), principal(granter)
    assert parent.may(resource, access, target) >= child.may(resource, access, target)
    assert parent.allows_all(resource, access) >= child.allows_all(resource, access)


@given(scope_maps)
def test_default_grant_has_all_unprotected_scopes(granter: dict[str, Scope]) -> None:
    granted = default_grant(granter)
    assert set(granted) == set(granter) - PROTECTED
    check_grant(granted, granter)


def test_first_key_has_every_scope() -> None:
    first = principal(all_scopes())
    assert all(first.allows_all(resource, "write") for resource in RESOURCES)
    assert render_scopes(all_scopes())["users"] == {"access": "write", "targets": ["*"]}


def test_write_access_includes_read_access() -> None:
    caller = principal({"queues": Scope("write"), "messages": Scope("read")})
    assert caller.may("queues", "read")
    assert caller.may("queues", "write", ONE)
    assert caller.may("messages", "read", ONE)
    assert not caller.may("messages", "write", ONE)
    assert not caller.may("domains", "read", ONE)


def test_targets_restrict_a_key_to_them_and_their_children() -> None:
    caller = principal({"messages": Scope("write", (ONE,))})
    assert caller.may("messages", "write", "x" * 21, ONE)
    assert not caller.may("messages", "write", TWO)
    assert not caller.may("messages", "write")
    assert not caller.may("messages", "write", "*")
    assert not caller.allows_all("messages", "write")


def test_a_star_among_targets_means_all() -> None:
    assert principal({"messages": Scope("write", (ONE, "*"))}).allows_all("messages", "write")


def test_lists_are_restricted_to_the_targets() -> None:
    caller = principal({"queues": Scope("read", (ONE, TWO)), "stats": Scope("read"), "events": Scope("write", ("*",))})
    assert caller.targets_of("queues", "read") == frozenset({ONE, TWO})
    assert caller.targets_of("stats", "read") is None
    assert caller.targets_of("events", "write") is None
    with pytest.raises(Forbidden, match='scope "messages" with read access'):
        caller.targets_of("messages", "read")


def test_error_names_the_missing_scope() -> None:
    caller = principal({"queues": Scope("read", (ONE,))})
    caller.require("queues", "read", ONE)
    with pytest.raises(Forbidden, match='scope "queues" with write access'):
        caller.require("queues", "write", ONE)
    with pytest.raises(Forbidden, match='scope "queues" with read access'):
        caller.require("queues", "read", TWO)
    with pytest.raises(Forbidden, match="It is protected: `discue keys create --scope portal` on the server"):
        caller.require("portal", "write")


@given(scopes=scope_maps, resource=st.sampled_from(RESOURCES), access=accesses, target=ids)
def test_may_allows_all_and_targets_of_agree(
    scopes: dict[str, Scope], resource: str, access: Access, target: str
) -> None:
    caller = principal(scopes)
    try:
        reached = caller.targets_of(resource, access)
    except Forbidden:
        assert not caller.may(resource, access, target)
    else:
        assert caller.allows_all(resource, access) == (reached is None)
        assert caller.may(resource, access, target) == (reached is None or target in reached)


@given(scope_maps)
def test_read_only_and_everything_can_be_granted_by_any_key(granter: Scopes) -> None:
    for preset in ("read-only", "everything"):
        check_grant(preset_scopes(preset, granter), granter)
    assert {scope.access for scope in preset_scopes("read-only", granter).values()} <= {"read"}


def test_presets_grant_no_protected_scope() -> None:
    for preset in PRESETS:
        granted = preset_scopes(preset, all_scopes())
        assert granted
        assert PROTECTED.isdisjoint(granted)

"""Aliases, organization names, and the two synonyms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.aliases import check_alias, check_organization_alias, reconcile
from discue.domain.errors import Fault, Unprocessable

ALIAS_CHARACTERS = "ABCXYZabcxyz0189._/-"
values = st.sampled_from(["alpha", "beta", "gamma"])


@given(st.text(ALIAS_CHARACTERS, min_size=4, max_size=64))
def test_an_alias_has_4_to_64_characters_of_the_alphabet(alias: str) -> None:
    check_alias(alias)


@pytest.mark.parametrize(
    "alias",
    ["", "abc", "a" * 65, "with space", "ümlaut", "tab\tbed", "line\n", "star*", "null\0null", "１２３４"],
)
def test_other_aliases_are_refused_at_their_place(alias: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_alias(alias, "/name")
    assert caught.value.faults[0].pointer == "/name"


@given(st.text(max_size=70))
def test_an_alias_is_accepted_exactly_by_the_rule(alias: str) -> None:
    characters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-")
    try:
        check_alias(alias)
    except Unprocessable:
        assert not (4 <= len(alias) <= 64 and set(alias) <= characters)
    else:
        assert 4 <= len(alias) <= 64
        assert set(alias) <= characters


@pytest.mark.parametrize(
    "alias",
    [
        "com.example.dev",
        "example.com/dev",
        "com.example",
        "a.bc",
        "com.ex-ample.9",
        "com.example.0OPFvCRRk3PdHdhfqKbcp",
        "example.com/dev.0OPFvCRRk3PdHdhfqKbcp",
        "com." + "a" * 63,
        ".".join(["a" * 49] * 5),
    ],
)
def test_a_reverse_domain_name_names_an_organization(alias: str) -> None:
    check_organization_alias(alias)


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "com",
        "example",
        "a.b",
        ".com.example",
        "com.example.",
        "com..example",
        "com.-example",
        "com.example-",
        "com.exa_mple",
        "com.exa mple",
        "com.example/",
        "com.example/a/b",
        "/dev",
        "com.exämple",
        "com.example\n",
        "com." + "a" * 64,
        ".".join(["a" * 50] * 5),
    ],
)
def test_other_names_of_organizations_are_refused(alias: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_organization_alias(alias)
    assert caught.value.faults[0].pointer == "/alias"


@pytest.mark.parametrize(
    ("alias", "name", "stored", "expected"),
    [
        (None, None, None, None),
        ("alpha", None, None, "alpha"),
        (None, "alpha", None, "alpha"),
        ("alpha", "alpha", None, "alpha"),
        (None, None, "alpha", "alpha"),
        ("beta", None, "alpha", "beta"),
        (None, "beta", "alpha", "beta"),
        ("beta", "alpha", "alpha", "beta"),
        ("alpha", "beta", "alpha", "beta"),
        ("beta", "beta", "alpha", "beta"),
        ("alpha", "alpha", "alpha", "alpha"),
    ],
)
def test_the_value_that_differs_from_the_stored_one_wins(
    alias: str | None, name: str | None, stored: str | None, expected: str | None
) -> None:
    assert reconcile(alias, name, stored) == expected


@pytest.mark.parametrize("stored", [None, "gamma"])
def test_two_new_values_that_differ_are_refused(stored: str | None) -> None:
    with pytest.raises(Unprocessable) as caught:
        reconcile("alpha", "beta", stored)
    assert caught.value.faults == (
        Fault("/alias", "differs from name"),
        Fault("/name", "differs from alias"),
    )


@given(first=st.none() | values, second=st.none() | values, stored=st.none() | values)
def test_the_synonyms_are_equal_in_rank(first: str | None, second: str | None, stored: str | None) -> None:
    def attempt(alias: str | None, name: str | None) -> str | None:
        try:
            return reconcile(alias, name, stored)
        except Unprocessable:
            return "refused"

    assert attempt(first, second) == attempt(second, first)

"""Aliases of resources and organizations, and their synonym `name`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.aliases import NameFields, changed_alias, check_alias, check_organization_alias, new_alias, reconcile
from discue.domain.errors import Fault, Unprocessable

ALIAS_CHARACTERS = "ABCXYZabcxyz0189._/-"
values = st.sampled_from(["alpha", "beta", "gamma"])


@given(st.text(max_size=70) | st.text(ALIAS_CHARACTERS, max_size=66))
def test_alias_rule_is_exact(alias: str) -> None:
    characters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-")
    try:
        check_alias(alias, "/name")
    except Unprocessable as error:
        assert error.faults[0].pointer == "/name"  # noqa: PT017
        assert not (1 <= len(alias) <= 64 and set(alias) <= characters)
    else:
        assert 1 <= len(alias) <= 64
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
def test_organization_alias_is_a_reverse_domain_name(alias: str) -> None:
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
def test_invalid_organization_alias_is_rejected(alias: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_organization_alias(alias)
    assert caught.value.faults[0].pointer == "/alias"


@pytest.mark.parametrize(
    ("alias", "name", "stored", "expected"),
    [
        (None, None, None, None),
        ("alpha", None, None, "alpha"),
        ("alpha", "alpha", None, "alpha"),
        (None, None, "alpha", "alpha"),
        ("beta", None, "alpha", "beta"),
        ("beta", "alpha", "alpha", "beta"),
        ("beta", "beta", "alpha", "beta"),
        ("alpha", "alpha", "alpha", "alpha"),
    ],
)
def test_changed_synonym_wins(alias: str | None, name: str | None, stored: str | None, expected: str | None) -> None:
    assert reconcile(alias, name, stored) == expected


@pytest.mark.parametrize("stored", [None, "gamma"])
def test_different_new_synonyms_are_rejected(stored: str | None) -> None:
    with pytest.raises(Unprocessable) as caught:
        reconcile("alpha", "beta", stored)
    assert caught.value.faults == (
        Fault("/alias", "differs from name"),
        Fault("/name", "differs from alias"),
    )


@given(first=st.none() | values, second=st.none() | values, stored=st.none() | values)
def test_synonyms_are_symmetric(first: str | None, second: str | None, stored: str | None) -> None:
    def attempt(alias: str | None, name: str | None) -> str | None:
        try:
            return reconcile(alias, name, stored)
        except Unprocessable:
            return "refused"

    assert attempt(first, second) == attempt(second, first)


def test_new_alias_defaults_and_changed_alias_keeps_the_stored_one_unchecked() -> None:
    nothing, alpha, bad = (NameFields(alias) for alias in (None, "alpha", "a b"))
    assert (new_alias(nothing, "x"), new_alias(alpha, "x")) == ("x", "alpha")
    assert (changed_alias(nothing, "x"), changed_alias(alpha, "x"), changed_alias(bad, "a b")) == ("x", "alpha", "a b")
    for alias in (new_alias, changed_alias):
        with pytest.raises(Unprocessable):
            alias(bad, "x")

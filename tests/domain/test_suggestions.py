from difflib import SequenceMatcher

import pytest

from discue.domain.suggestions import alternatives, suggestion


def test_most_similar_name_is_suggested() -> None:
    assert suggestion("kees", ["keys", "serve", "check"]) == "; did you mean keys?"
    assert suggestion("kye", ["key", "state"]) == "; did you mean key?"
    assert suggestion("PROT", ["PORT", "HOST"], "DISCUE_") == "; did you mean DISCUE_PORT?"


def test_suggestion_is_empty_without_a_similar_name() -> None:
    assert suggestion("xyzzy", ["keys", "serve"]) == ""


@pytest.mark.parametrize(("word", "name"), [("secret_key", "secret"), ("tags", "status"), ("cursor", "customer")])
def test_another_name_with_many_of_the_same_letters_is_not_suggested(word: str, name: str) -> None:
    assert suggestion(word, [name]) == ""
    assert alternatives(word, [name, "alias"]) == f"; known names: alias, {name}"


def test_known_names_are_listed_up_to_a_number() -> None:
    names = [f"{number:02}" for number in range(22)]

    assert alternatives("xyzzy", names[:20]) == f"; known names: {', '.join(names[:20])}"
    assert alternatives("xyzzy", names) == f"; known names: {', '.join(names[:20])} and 2 more: see /docs/api"
    assert alternatives("xyzzy", []) == ""


def test_names_of_the_same_letters_are_not_all_compared_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[float] = []
    ratio = SequenceMatcher.ratio

    def counted(matcher: SequenceMatcher[str]) -> float:
        compared.append(ratio(matcher))
        return compared[-1]

    monkeypatch.setattr(SequenceMatcher, "ratio", counted)
    names = ["ab" * first + "ba" * (32 - first) for first in range(32)]

    assert suggestion("ab" * 32, names)
    assert len(compared) <= 4

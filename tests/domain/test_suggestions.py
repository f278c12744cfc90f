from difflib import SequenceMatcher

import pytest

from discue.domain.suggestions import suggestion


def test_most_similar_name_is_suggested() -> None:
    assert suggestion("kees", ["keys", "serve", "check"]) == "; did you mean keys?"
    assert suggestion("PROT", ["PORT", "HOST"], "DISCUE_") == "; did you mean DISCUE_PORT?"


def test_suggestion_is_empty_without_a_similar_name() -> None:
    assert suggestion("xyzzy", ["keys", "serve"]) == ""


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

from discue.domain.suggestions import suggestion


def test_most_similar_name_is_suggested() -> None:
    assert suggestion("kees", ["keys", "serve", "check"]) == "; did you mean keys?"
    assert suggestion("PROT", ["PORT", "HOST"], "DISCUE_") == "; did you mean DISCUE_PORT?"


def test_suggestion_is_empty_without_a_similar_name() -> None:
    assert suggestion("xyzzy", ["keys", "serve"]) == ""

"""Entity tags (RFC 9110): parsing and comparison."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.domain.etags import EntityTag, EntityTags, etag_of, parse_etags, version_of
from discue.domain.model import ApiKey, Organization

OPAQUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), max_size=20)
TAGS = st.builds(EntityTag, OPAQUE, st.booleans())
BLANKS = st.sampled_from(["", " ", "\t", "  "])

KEY = ApiKey(1, 2, "id", "alias", "enabled", "{}", 0, 0, 5, 5)


def written(tag: EntityTag) -> str:
    return f'{"W/" if tag.is_weak else ""}"{tag.opaque}"'


@given(st.lists(st.tuples(BLANKS, TAGS, BLANKS, st.integers(1, 3)), min_size=1, max_size=6))
def test_list_of_tags_is_parsed_with_blanks_and_empty_elements(
    elements: list[tuple[str, EntityTag, str, int]],
) -> None:
    text = "".join(f"{before}{written(tag)}{after}{',' * commas}" for before, tag, after, commas in elements)
    assert parse_etags(text) == EntityTags(tuple(tag for _, tag, _, _ in elements))


@pytest.mark.parametrize("text", ["*", " * ", "\t*"])
def test_star_matches_any_tag(text: str) -> None:
    assert parse_etags(text) == EntityTags(is_any=True)


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", ", ,", "abc", '"abc', 'abc"', '"a" "b"', 'w/"a"', 'W / "a"', '"a", *', '*, "a"', '"a b"', '"a";"b"'],
)
def test_invalid_list_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="entity tags"):
        parse_etags(text)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        tags = parse_etags(text)
    except ValueError:
        return
    assert tags.is_any != bool(tags.tags)


@given(st.binary(), st.binary())
def test_etag_matches_only_its_response(body: bytes, other: bytes) -> None:
    etag = etag_of("v", body)
    for text in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        assert parse_etags(text).matches(etag)
    assert parse_etags(etag_of("v", other)).matches(etag) == (other == body)


@given(st.binary())
def test_version_matches_every_response_of_it(body: bytes) -> None:
    version = version_of(KEY)
    tags = parse_etags(etag_of(version, body))
    assert tags.matches_version(version)
    assert parse_etags(f'"other", {etag_of(version, body)}').matches_version(version)
    assert not tags.matches_version(version_of(msgspec.structs.replace(KEY, alias="other")))


def test_weak_tag_matches_no_version() -> None:
    version = version_of(KEY)
    assert not parse_etags(f'W/"{version}.abc"').matches_version(version)
    assert parse_etags("*").matches_version(version)


@given(st.sampled_from(["alias", "status", "scopes", "expires_at", "updated_at"]))
def test_version_changes_with_every_changeable_field(field: str) -> None:
    assert version_of(msgspec.structs.replace(KEY, **{field: "other"})) != version_of(KEY)


def test_version_ignores_fields_that_no_request_changes() -> None:
    used = msgspec.structs.replace(KEY, last_used_at=17)
    assert version_of(used) == version_of(KEY)


def test_version_ignores_the_order_of_settings() -> None:
    one, other = [
        Organization(1, "id", "alias", "active", False, order, 5, 5) for order in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    ]
    assert version_of(one) == version_of(other)

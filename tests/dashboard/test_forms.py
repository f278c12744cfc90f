"""Errors of forms name fields as people see them."""

import asyncio
import gc
import re
import weakref
from pathlib import Path

import pytest

from discue.dashboard.fields import number_of, value_of
from discue.dashboard.forms import LABELS, FieldFaults
from discue.dashboard.steps import done_by
from discue.domain.errors import BadRequest, DiscueError, Fault, NotFound, Unprocessable, invalid

_FIELD = re.compile(r'field\("(\w+)", "([^"]+)"([^\n]*)')
_POINTER = re.compile(r'pointer="([^"]+)"')
_SELECT = re.compile(r'<label for="(\w+)">([^<]+)</label>\s*<select[^>]*\{\{ invalid')


def test_labels_in_errors_are_those_of_the_forms() -> None:
    shown: dict[str, set[str]] = {}
    for template in Path("discue/dashboard/templates").rglob("*.html"):
        text = template.read_text("utf-8")
        for name, label, rest in (*_FIELD.findall(text), *((*each, "") for each in _SELECT.findall(text))):
            pointer = _POINTER.search(rest)
            shown.setdefault(pointer[1] if pointer else f"/{name}", set()).add(label)
    assert len(shown) > 15
    assert {pointer: labels for pointer, labels in shown.items() if labels != {LABELS.get(pointer)}} == {}


@pytest.mark.parametrize(
    ("error", "problems"),
    [
        (None, []),
        (invalid("/notify_url", "must start with https://"), ["URL: must start with https://."]),
        (
            Unprocessable(
                "Two values.", code="invalid_value", faults=(Fault("/role", "is missing"), Fault("/email", "is taken"))
            ),
            ["Role: is missing.", "Email: is taken."],
        ),
        (invalid("/data/amount", "must be a number"), ["The value at /data/amount must be a number."]),
        (NotFound("It is gone."), ["It is gone."]),
    ],
    ids=str,
)
def test_problem_names_the_label_of_its_field(error: DiscueError | None, problems: list[str]) -> None:
    assert FieldFaults(error).problems() == problems


def test_problem_that_a_field_shows_is_not_repeated_above_the_form() -> None:
    two = (Fault("/role", "is missing"), Fault("/email", "is taken"))
    faults = FieldFaults(Unprocessable("Two values.", code="invalid_value", faults=two))
    assert faults["/role"] == "is missing"
    assert faults.problems() == ["Email: is taken."]
    assert faults["/email"] == "is taken"
    assert faults.problems() == ["Nothing was saved. See the marked field."]


@pytest.mark.parametrize(
    "text", ["10", "-1", "1.5", "³", "0000000000019", f"000000000000{'9' * 5_000}"], ids=lambda text: text[:13]
)
def test_number_out_of_range_is_refused_in_every_notation(text: str) -> None:
    with pytest.raises(Unprocessable, match="must be a number from 0 to 9"):
        number_of(text, "hours", range(10))
    assert number_of("007", "hours", range(10)) == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [('{"a":', "must be JSON: its end is missing"), ("[1,]", "must be JSON: trailing comma in array (byte 3)")],
)
def test_fault_in_json_is_explained_in_plain_words(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as raised:
        value_of(text, "json")
    assert raised.value.faults[0].detail == sentence


def test_json_in_a_form_is_nested_as_deeply_as_in_the_api() -> None:
    assert len(value_of("[" * 900 + "]" * 900, "json")) == 1_800
    with pytest.raises(BadRequest, match="must be nested at most 900 levels deep"):
        value_of("[" * 901 + "]" * 901, "json")


def test_error_of_a_refused_form_does_not_keep_the_request_in_memory() -> None:
    class Form:
        error: DiscueError | None = None

    async def refuse(_visit: object) -> None:
        raise invalid("/role", "is missing")

    form = Form()
    freed = weakref.ref(form)
    asyncio.run(done_by(form, refuse))  # type: ignore[arg-type]
    assert form.error is not None
    gc.disable()
    try:
        del form
        assert freed() is None
    finally:
        gc.enable()

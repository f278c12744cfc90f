"""The recipes of the page about transforms make the bodies that it shows."""

import json
import re
from pathlib import Path

import pytest

from discue.api.structs import EXAMPLE_IDS
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry, MessageOptions, encode_options
from discue.domain.transforms import check_transform, transformed

PAGE = (Path(__file__).parents[2] / "docs" / "transforms.md").read_text()
RECIPES = re.findall(r"```jmespath\n(.*?)```\n\n```json\n(.*?)```", PAGE, re.DOTALL)


def test_page_has_recipes() -> None:
    assert len(RECIPES) == PAGE.count("```jmespath") == 5


@pytest.mark.parametrize(("expression", "expected"), RECIPES, ids=range(len(RECIPES)))
def test_recipe_makes_the_body_shown(expression: str, expected: str) -> None:
    [message] = re.findall(r"```json message\n(.*?)```", PAGE, re.DOTALL)
    given = json.loads(message)
    extra = encode_options(MessageOptions(type=given["type"])) or b""
    entry = Entry(1, EXAMPLE_IDS["message_id"], 0, JSON_VALUE, json.dumps(given["data"]).encode(), extra=extra)
    check_transform(expression)
    assert json.loads(transformed(entry, expression).body) == json.loads(expected)

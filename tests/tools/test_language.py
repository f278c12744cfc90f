"""The rules of language. `make check` applies them to the project."""

import pytest

from tools.language import hits_in


def hits_of(text: str, path: str = "discue/module.py") -> list[int]:
    return [hit.line for hit in hits_in(path, text)]


@pytest.mark.parametrize(
    "text",
    [
        '"""The same, for others."""',
        '"""Of several workers one."""',
        '"""What is known of a caller."""',
        'class C:\n    """One that sends."""',
        'LIMIT = 1\n"""As many as fit."""',
        'def f():\n    """The row, or None."""',
        "# It is under\n# way.\n",
        "x = 1  # read anew",
        'raise E("Somebody else keeps house.")',
        'raise E(f"{name} is another one.")',
        '"""Counts guests."""',
    ],
)
def test_vague_text_is_found(text: str) -> None:
    assert hits_of(text) != []


@pytest.mark.parametrize(
    "text",
    [
        'def f():\n    """Whether the lane is idle."""',
        'def f():\n    """Return the row, or None."""',
        'class C:\n    @property\n    def f(self):\n        """The row, or None."""',
        '"""Requests in flight."""',
        'LIMIT = 1\n"""Most requests in flight."""',
        "beside = 1",
    ],
)
def test_plain_text_is_accepted(text: str) -> None:
    assert hits_of(text) == []


@pytest.mark.parametrize("name", ["test_what_is_rendered_is_read_back", "test_nobody_waits", "test_works"])
def test_vague_test_name_is_found(name: str) -> None:
    assert hits_of(f"def {name}():\n    pass\n", "tests/test_module.py") == [1]


def test_code_on_a_page_is_no_text() -> None:
    assert hits_of("It is `under way`.\n\n```python\n# under way\n```\n", "docs/page.md") == []


def test_phrase_over_two_lines_of_a_page_is_found() -> None:
    assert hits_of("# Title\n\nA request that is under\nway ends.\n", "docs/page.md") == [3]

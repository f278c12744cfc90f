"""The description of the wheel shows nothing that only the repository has."""

import re
from pathlib import Path

from tools.wheel_readme import for_wheel

README = Path(__file__).parents[2] / "README.md"


def test_description_has_no_image_and_no_link_to_a_file() -> None:
    readme = README.read_text()
    assert "](docs/images/" in readme
    text = for_wheel(readme)
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []
    assert "![" not in text
    assert "\n!" not in text

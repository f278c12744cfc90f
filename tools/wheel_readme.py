"""The description in the metadata of the wheel: the README without links to files of the repository."""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK: Final = re.compile(r"\[([^\]]*)\]\((?!https?://)[^)]*\)")
_IMAGE: Final = re.compile(r"^!\[[^\]]*\]\((?!https?://)[^)]*\)\n+", re.MULTILINE)
_TABLE_OF_LINKS: Final = re.compile(r"^## Documentation\n.*", re.MULTILINE | re.DOTALL)
_INSTEAD: Final = """\
## Documentation

`discue dev` and `discue serve` serve guides and reference at `/docs`.
"""


def for_wheel(readme: str) -> str:
    """Return the README without images, with the text of each link to a file, and the address of the documentation."""
    return _LINK.sub(r"\1", _IMAGE.sub("", _TABLE_OF_LINKS.sub(_INSTEAD, readme)))


class ReadmeHook(MetadataHookInterface):
    """Called by hatchling when it builds."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_wheel(readme)}

"""The style and the scripts of the pages, from memory. Their URLs contain a hash, so browsers keep them for ever."""

import gzip
import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from discue.http.frame import ICON, STYLE

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HASH_CHARACTERS: Final = 12
_NAMES: Final = ("dashboard.js", "invitation.js", "portal.css", "portal.js", "embed.js")


class StaticFile(NamedTuple):
    """A file as it is served."""

    path: str
    """Below `/dashboard`."""
    content_type: str
    content: bytes
    compressed: bytes


def _read(name: str) -> bytes:
    return files("discue.dashboard").joinpath("static", name).read_bytes()


_CONTENTS: Final = {
    "icon.svg": ICON,
    "dashboard.css": STYLE + _read("dashboard.css"),
    **{name: _read(name) for name in _NAMES},
}


def _static_file(name: str, content: bytes) -> StaticFile:
    stem, _, kind = name.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
    return StaticFile(f"/static/{stem}-{digest}.{kind}", _TYPES[kind], content, gzip.compress(content, mtime=0))


FILES: Final = {name: _static_file(name, content) for name, content in _CONTENTS.items()}
"""The files by their names."""

BY_PATH: Final = {each.path: each for each in FILES.values()}

"""The style and the scripts of the pages, from memory. Their URLs contain a hash, so browsers keep them for ever."""

import gzip
import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

from discue.http.frame import ICON, STYLE

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HASH_CHARACTERS: Final = 12
_NAMES: Final = ("dashboard.js", "invitation.js", "portal.css", "portal.js", "embed.js")
_MODULE: Final = "shared.js"
"""The module that other scripts import: with its hash, so that browsers do not keep an old one."""


class StaticFile(NamedTuple):
    path: str
    """Below `/dashboard`."""
    content_type: str
    content: bytes
    compressed: bytes


def _read(name: str) -> bytes:
    return files("discue.dashboard").joinpath("static", name).read_bytes()


def _static_file(name: str, content: bytes) -> StaticFile:
    stem, _, kind = name.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]
    return StaticFile(f"/static/{stem}-{digest}.{kind}", _TYPES[kind], content, gzip.compress(content, mtime=0))


def _files() -> dict[str, StaticFile]:
    module = _static_file(_MODULE, _read(_MODULE))
    imported = f".{module.path.removeprefix('/static')}".encode()
    contents = {"icon.svg": ICON, "dashboard.css": STYLE + _read("dashboard.css")}
    for name in _NAMES:
        contents[name] = _read(name).replace(f"./{_MODULE}".encode(), imported)
    return {_MODULE: module, **{name: _static_file(name, content) for name, content in contents.items()}}


FILES: Final = _files()
"""The files by their names."""

BY_PATH: Final = {each.path: each for each in FILES.values()}

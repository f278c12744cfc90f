"""Media types: which ones data can have, and which of them mean JSON."""

import re
from typing import Final

from discue.domain.errors import invalid

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"

MAX_CHARACTERS: Final = 255
PATTERN: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[!-~ \t]*)?$"
_MEDIA_TYPE: Final = re.compile(PATTERN[1:-1])


def check_media_type(media_type: str, pointer: str) -> str:
    """Return the media type, which fits a header as it is. Raises Unprocessable."""
    if len(media_type) > MAX_CHARACTERS or _MEDIA_TYPE.fullmatch(media_type) is None:
        raise invalid(pointer, f"must be a media type of at most {MAX_CHARACTERS} characters, such as image/png")
    return media_type


def is_json_type(media_type: str) -> bool:
    """Return whether data of this media type is JSON."""
    # Suffixes such as `application/vnd.shop+json` are JSON, too (RFC 6839).
    subtype = media_type.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")

"""The command for curl that sends the request of an attempt again."""

import shlex
from typing import Final

from discue.domain.attempts import HIDDEN, AttemptDetail

_COMPUTED: Final = frozenset({"content-length", "connection", "host", "accept-encoding"})
"""Headers that curl sets itself."""
_LONGEST_BODY: Final = 4_096


def curl_of(detail: AttemptDetail, body: bytes | None) -> str:
    """Return the command, without the headers that are not kept.

    It reads a body that is long, binary or None from a file.
    """
    sent = dict(detail.request_headers)
    host = next((value for name, value in sent.items() if name.lower() == "host"), "")
    lines = [f"curl -i -X POST {shlex.quote(f'http://{host}')}"]
    lines += [
        f"-H {shlex.quote(f'{name}: {value}')}"
        for name, value in sent.items()
        if name.lower() not in _COMPUTED and value != HIDDEN
    ]
    if body is not None and len(body) <= _LONGEST_BODY and body.isascii():
        lines.append(f"--data-raw {shlex.quote(body.decode())}")
    else:
        lines.append("--data-binary @message.bin")
    return " \\\n  ".join(lines)

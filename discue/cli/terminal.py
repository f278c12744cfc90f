"""What `discue dev` writes: plain text of 80 columns, and commands that can be pasted into a shell."""

from collections.abc import Iterator
from datetime import UTC, datetime
from textwrap import dedent

from discue import __version__
from discue.cli.demo import QUEUE_ALIAS
from discue.cli.inbox import PATH, VERIFIED, ReceivedRequest

_COLUMNS = 80
_SHOWN_CHARACTERS = 2_000
_INDENT = "  "


def welcome(url: str, key: str, queue: str, place: str) -> str:
    """What to do first. Each command works as it stands, in any POSIX shell. `place` is where the data is."""
    return dedent(f"""
        discue {__version__} is ready at {url}
        Everything is kept in {place}, for the next time. Ctrl-C ends it.

        Publish a message to the queue {QUEUE_ALIAS}; its listener is the inbox, shown here:

        curl {url}/queues/{queue}/messages \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"data": {{"hello": "world"}}}}'

        Read the inbox:

        curl '{url}{PATH}?pretty=true'

        Add a listener to the queue {QUEUE_ALIAS} (here the inbox again, a second time):

        curl {url}/queues/{queue}/listeners \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"notify_url": "{url}{PATH}",
               "liveness_url": "{url}/health/live"}}'

        Create a queue:

        curl {url}/queues \\
          -H 'X-API-KEY: {key}' \\
          -H 'Content-Type: application/json' \\
          -d '{{"alias": "orders"}}'
        """)


def receipt(received: ReceivedRequest) -> str:
    """One request that the inbox received."""
    at = datetime.fromtimestamp(received.received_at / 1_000, UTC)
    good = received.signature == VERIFIED
    lines = [f"{at:%H:%M:%S} UTC  POST {PATH}, signature {'verified ✓' if good else 'NOT verified ✗'}"]
    lines += [] if good else [f"({received.signature})"]
    lines += [f"{name}: {value}" for name, value in received.headers]
    lines += ["", *_body(received)]
    return "\n".join([*_wrapped(lines), ""])


def _body(received: ReceivedRequest) -> list[str]:
    lines = received.body[:_SHOWN_CHARACTERS].split("\n")
    if len(received.body) > _SHOWN_CHARACTERS:
        lines.append(f"… {received.bytes} bytes in all")
    return lines


def _wrapped(lines: list[str]) -> Iterator[str]:
    """Lines of the terminal's width; what would move its cursor or change its colours is spelt out."""
    for number, line in enumerate(lines):
        text = (_INDENT if number else "") + "".join(map(_harmless, line))
        yield text[:_COLUMNS].rstrip()
        for start in range(_COLUMNS, len(text), _COLUMNS - 2 * len(_INDENT)):
            yield 2 * _INDENT + text[start : start + _COLUMNS - 2 * len(_INDENT)]


def _harmless(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()

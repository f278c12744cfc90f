"""The message that is published: a JSON document, of 300 bytes in most measures."""

import msgspec

MESSAGE_BYTES = 300


def message_of(stamp: int, size: int = MESSAGE_BYTES) -> bytes:
    """The document, with a number to know it by."""
    text = msgspec.json.encode({"stamp": stamp, "kind": "invoice.paid", "text": ""})
    filler = "x" * (size - len(text))
    return msgspec.json.encode({"stamp": stamp, "kind": "invoice.paid", "text": filler})


def single(data: bytes) -> bytes:
    """The body of a publish."""
    return b'{"data":' + data + b"}"


def batch(data: bytes, count: int) -> bytes:
    """The body of a publish of many."""
    return b'{"messages":[' + b",".join([single(data)] * count) + b"]}"


MESSAGE = message_of(0)

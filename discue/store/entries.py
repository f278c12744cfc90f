"""Rows of the log as lanes read them."""

from typing import Final

from discue.domain.messages import encode_options
from discue.domain.model import Entry, StoredMessage
from discue.store.engine import NewEntry, Row

JSON: Final = 1
"""The codec of a body that is JSON; 0 is that of text."""
WAITING: Final = 1
"""The kind of a row whose message is not due yet; 0 is that of all others."""

BODY: Final = """coalesce(l.body, (
        SELECT b.bytes FROM body b WHERE b.organization = l.organization AND b.id = l.body_id))"""
"""The body of a row `l` of the log: its own, or the one that it shares."""


def entry_of(row: Row) -> Entry:
    """From `seq, id, stored_at, codec, body, expires_at, key_hash, extra`."""
    seq, public_id, stored_at, codec, body, expires_at, key_hash, extra = row
    return Entry(seq, public_id, stored_at, codec == JSON, body, expires_at or 0, key_hash, extra or b"")


def entry_of_page(row: Row) -> Entry:
    """From the same and `kind, origin_seq`."""
    seq, public_id, stored_at, codec, body, expires_at, key_hash, extra, kind, origin_seq = row
    options = (expires_at or 0, key_hash, extra or b"")
    return Entry(seq, public_id, stored_at, codec == JSON, body, *options, kind == WAITING, origin_seq or 0)


def appended(new: NewEntry, seq: int, stored_at: int) -> Entry:
    """As it stands in the log now."""
    if new.extra is None and new.expires_at is None and new.key_hash is None:
        return Entry(seq, new.id, stored_at, new.is_json, new.body)
    options = (new.expires_at or 0, new.key_hash, new.extra or b"")
    if new.due_at is not None:
        return Entry(seq, new.id, stored_at, new.is_json, b"", *options, waits=True)
    return Entry(seq, new.id, stored_at, new.is_json, new.body, *options)


def entry_like(message: StoredMessage) -> Entry:
    """A stored message as lanes would read it, but for what its order is kept by."""
    extra = encode_options(message.options) or b""
    return Entry(
        message.seq, message.id, message.stored_at, message.is_json, message.body, message.expires_at, extra=extra
    )

"""Times that people type or choose, in fields of forms."""

from datetime import UTC, datetime

from discue.domain.errors import malformed


def instant_of(text: str, pointer: str) -> int:
    """Return a time in milliseconds since the epoch; UTC, unless it has an offset. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise malformed(pointer, "must be a time such as 2026-07-01T12:00, in UTC", code="wrong_type") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def typed(instant: int | None) -> str:
    """Return a time as a browser puts it into the field of a form, to the second; "" for None."""
    if instant is None:
        return ""
    moment = datetime.fromtimestamp(instant // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}" if moment.second else f"{moment:%Y-%m-%dT%H:%M}"

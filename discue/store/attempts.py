"""Records of attempts, as rows."""

from typing import Final

from discue.domain.model import Attempt
from discue.store.engine import Detail, Value

COLUMNS: Final = "organization, id, listener, queue, seq, number, status, error, took_ms, detail, replay"
DETAIL_COLUMNS: Final = "organization, id, listener, size, content"


def row_of(attempt: Attempt) -> tuple[Value, ...]:
    return (
        attempt.organization,
        attempt.id,
        attempt.listener,
        attempt.queue,
        attempt.seq,
        attempt.number,
        attempt.status,
        attempt.error,
        attempt.took_ms,
        attempt.detail,
        attempt.replay,
    )


def detail_row(organization: int, listener: int, detail: Detail) -> tuple[Value, ...]:
    attempt, content = detail
    return organization, attempt, listener, len(content), content

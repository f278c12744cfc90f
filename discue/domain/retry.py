"""How long a delivery waits after a failed attempt, when there is none left, and which answers end it at once."""

import msgspec

from discue.domain.model import RetryOptions

_LONGEST_RETRY_AFTER_SECONDS = 24 * 3_600


class RetryPolicy(msgspec.Struct, frozen=True):
    """The delays between attempts, and by which part of itself each may be longer (never shorter).

    `final` are the answers after which there is no other attempt: statuses (`"422"`) and classes of them (`"4xx"`).
    """

    delays_seconds: tuple[int, ...]
    jitter: float = 0.2
    final: frozenset[str] = frozenset()

    @property
    def attempts(self) -> int:
        """How many attempts there are at most, the first included."""
        return len(self.delays_seconds) + 1

    def is_final(self, status: int) -> bool:
        """Whether an answer with this status makes the delivery missed."""
        return bool(self.final) and (str(status) in self.final or f"{status // 100}xx" in self.final)


DEFAULT_RETRY_POLICY = RetryPolicy((5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))


def narrowed(policy: RetryPolicy, options: RetryOptions | None) -> RetryPolicy:
    """The policy with what the options say in place of its own.

    Fewer `attempts` than the schedule has cut it; for more its last delay is repeated.
    """
    if options is None:
        return policy
    delays = policy.delays_seconds if options.schedule is None else options.schedule
    if options.attempts is not None:
        delays = _of_length(delays, options.attempts - 1)
    return RetryPolicy(
        delays,
        policy.jitter if options.jitter is None else options.jitter,
        policy.final if options.final_statuses is None else frozenset(map(str, options.final_statuses)),
    )


def _of_length(delays: tuple[int, ...], length: int) -> tuple[int, ...]:
    last = delays[-1] if delays else DEFAULT_RETRY_POLICY.delays_seconds[0]
    return (*delays[:length], *[last] * (length - len(delays)))


def delay_ms(policy: RetryPolicy, attempts_made: int, retry_after_seconds: int | None, random: float) -> int | None:
    """Milliseconds from the end of the failed attempt `attempts_made` to the next; None if it was the last.

    `random` is from [0, 1). What the listener asked for with Retry-After is stretched like a delay of ours,
    so that those refused together do not come back together; it lengthens the wait to 24 hours at most and
    never shortens it.
    """
    if attempts_made < 1:
        raise ValueError(f"a delay follows an attempt; attempts_made is {attempts_made}")
    if attempts_made >= policy.attempts:
        return None
    stretch = 1.0 + policy.jitter * random
    asked_seconds = min(retry_after_seconds or 0, _LONGEST_RETRY_AFTER_SECONDS)
    scheduled_ms = int(policy.delays_seconds[attempts_made - 1] * 1_000 * stretch)
    asked_ms = min(int(asked_seconds * 1_000 * stretch), _LONGEST_RETRY_AFTER_SECONDS * 1_000)
    return max(scheduled_ms, asked_ms)

"""Public ids (21 characters, sorted by time, unguessable) and row ids (64-bit integers)."""

from collections.abc import Callable

from discue.domain.clock import Clock

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 21

_BASE = len(ALPHABET)
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
_TIME_CHARACTERS = 8
_COUNTER_LIMIT = _BASE * _BASE
_REST_CHARACTERS = LENGTH - _TIME_CHARACTERS
_RANDOM_CHARACTERS = _REST_CHARACTERS - 2
_LATEST_MILLISECOND = _BASE**_TIME_CHARACTERS - 1
_MAX_ROW_ID = (1 << 63) - 1
_POOL_BYTES = 8_192

# 248 is the largest multiple of 62 in a byte. Dropping the bytes above it keeps every character equally likely.
_UNBIASED_LIMIT = 248
_TRANSLATION = bytes(ord(ALPHABET[byte % _BASE]) for byte in range(256))
_DROPPED = bytes(range(_UNBIASED_LIMIT, 256))

RandomBytes = Callable[[int], bytes]


class RandomText:
    """A source of unbiased random characters, taken from a pool that refills itself."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._pool = ""
        self._used = 0

    def take(self, length: int) -> str:
        """Return `length` characters with log2(62) = 5.95 bits each."""
        end = self._used + length
        # Random bytes are drawn in chunks: a call for each id would cost more than the rest.
        while end > len(self._pool):
            fresh = self._random_bytes(_POOL_BYTES).translate(_TRANSLATION, _DROPPED).decode("ascii")
            self._pool = self._pool[self._used :] + fresh
            self._used, end = 0, length
        text = self._pool[self._used : end]
        self._used = end
        return text


class PublicIds:
    """A generator of public ids: 8 characters of milliseconds, 2 of a counter, 11 random ones (65 bits).

    Ids of one generator always increase, even if the clock stands still or goes back.
    """

    def __init__(self, clock: Clock, random_bytes: RandomBytes) -> None:
        self._clock = clock
        self._text = RandomText(random_bytes)
        self._millisecond = -1
        self._counter = 0
        self._prefix = ""

    def next(self) -> str:
        now = self._clock.now()
        if now > self._millisecond:
            self._start(now)
        # The clock stands still or went back. Ids must increase nevertheless, so take the next millisecond in advance.
        elif self._counter == _COUNTER_LIMIT:
            self._start(self._millisecond + 1)
        text = self._prefix + _PAIRS[self._counter] + self._text.take(_RANDOM_CHARACTERS)
        self._counter += 1
        return text

    def _start(self, millisecond: int) -> None:
        self._millisecond = millisecond
        self._counter = 0
        self._prefix = encode(millisecond, _TIME_CHARACTERS)


_SEQUENCE_BITS = 22
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1
_SLOT_BITS = 10

SLOTS = 1 << _SLOT_BITS
WORKER_SLOTS = range(768)
"""Slots that the database assigns to live workers."""
COMMAND_SLOTS = range(768, SLOTS)
"""Slots for commands that write while workers run; a command picks one at random."""


class RowIds:
    """A generator of row ids: milliseconds, then 12 bits of a counter, then 10 bits of the slot.

    Row ids fit a signed 64-bit column and increase, so the newest rows are adjacent. Generators with different slots
    never produce the same id. The slot may change at any time.
    """

    def __init__(self, clock: Clock, slot: int = 0) -> None:
        self._clock = clock
        self._last = -1
        self.slot = slot

    def next(self) -> int:
        # Without the slot bits: ids must increase even if the slot changes to a lower one.
        incremented = ((self._last >> _SLOT_BITS) + 1) << _SLOT_BITS
        self._last = max(self._clock.now() << _SEQUENCE_BITS, incremented) | self.slot
        return self._last


def row_id_at(millisecond: int) -> int:
    """Return the smallest row id of a millisecond, to turn a time bound into a bound of ids."""
    return millisecond << _SEQUENCE_BITS


def postponed(row_id: int, milliseconds: int) -> int:
    """Return a row id of a later time, for a row that is kept for longer than others by the time in its id.

    It differs from all others: a generator would have to make 2,048 ids within that millisecond to return it, too.
    """
    return (row_id + row_id_at(milliseconds)) ^ 1 << (_SEQUENCE_BITS - 1)


def millisecond_of(row_id: int) -> int:
    """Return when a row id was generated, in milliseconds since the epoch."""
    return row_id >> _SEQUENCE_BITS


def event_id_of(row_id: int) -> str:
    """Return a row id in the form of a public id. Sorted as text, all of these are in order of time."""
    return encode(millisecond_of(row_id), _TIME_CHARACTERS) + encode(row_id & _SEQUENCE_MASK, _REST_CHARACTERS)


def row_id_up_to(public_id: str) -> int:
    """Return the largest row id whose event id does not sort after a public id. Inverse of `event_id_of`."""
    # Public ids have more bits after the time than row ids. Larger values are clamped to the last row id.
    rest = min(decode(public_id[_TIME_CHARACTERS:]), _SEQUENCE_MASK)
    return min(row_id_at(millisecond_in(public_id)) | rest, _MAX_ROW_ID)


def millisecond_in(public_id: str) -> int:
    """Return when a public id was generated, in milliseconds since the epoch."""
    return decode(public_id[:_TIME_CHARACTERS])


def last_id_of(millisecond: int) -> str:
    """Return the largest possible public id of a millisecond. Times out of range are clamped."""
    return encode(min(max(millisecond, 0), _LATEST_MILLISECOND), _TIME_CHARACTERS) + ALPHABET[-1] * _REST_CHARACTERS


def encode(number: int, length: int) -> str:
    """Return `number` in base 62, padded to `length`, so that text sorts like numbers."""
    # Two digits at once: this runs for each event of a page.
    pairs = []
    for _ in range(length // 2):
        number, digits = divmod(number, _BASE * _BASE)
        pairs.append(_PAIRS[digits])
    if length % 2:
        pairs.append(ALPHABET[number % _BASE])
    return "".join(reversed(pairs))


def decode(text: str) -> int:
    """Return the number of a base 62 text. Raises ValueError for a character outside the alphabet."""
    number = 0
    for character in text:
        number = number * _BASE + ALPHABET.index(character)
    return number


def is_public_id(text: str) -> bool:
    return len(text) == LENGTH and text.isascii() and text.isalnum()

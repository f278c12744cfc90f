"""What a listener's filter costs, the reading of the message included."""

import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.bench import Bench
from benchmarks.body import message_of
from benchmarks.medians import median
from benchmarks.table import Row, at_most, seen, shown
from discue.domain.filters import TypeFilter, compile_filter
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import Entry, MessageOptions, encode_options

MESSAGES = 2_000
"""More than what is kept of those that were read, so that each is read anew."""

ORDINARY = '{"data": {"kind": ["invoice.paid", "invoice.sent"], "stamp": {"$gte": 0}, "text": {"$prefix": "x"}}}'
OF_KEYS = '{"key": {"$exists": false}}'

TYPES = ("order.*", "invoice.paid", "shipment.>")

_AT_MOST_US = 3
_TYPES_AT_MOST_US = 0.2


def measure(bench: Bench) -> list[Row]:
    decode = msgspec.json.Decoder().decode
    ordinary, of_keys = compile_filter(ORDINARY), compile_filter(OF_KEYS)
    typed, extra = TypeFilter(TYPES), encode_options(MessageOptions(type="order.paid")) or b""
    alone, conditions, keys, types = [], [], [], []
    for turn in range(bench.effort.pairs):
        first = turn * MESSAGES
        entries = [Entry(stamp, "", 0, JSON_VALUE, message_of(stamp)) for stamp in range(first, first + MESSAGES)]
        alone.append(_cost_us(lambda entry: decode(entry.body), entries))
        conditions.append(_cost_us(ordinary.accepts, entries))
        keys.append(_cost_us(of_keys.accepts, entries))
        entries = [Entry(stamp, "", 0, JSON_VALUE, b"1", extra=extra) for stamp in range(MESSAGES)]
        types.append(_cost_us(typed.accepts, entries))
    return [
        seen("reading a message of 300 bytes", f"{shown(median(alone))} µs"),
        seen("a filter by key, a message", f"{shown(median(keys))} µs"),
        at_most("the types of a listener, a message", median(types), _TYPES_AT_MOST_US, " µs"),
        at_most("a filter of three conditions on data, a message", median(conditions), _AT_MOST_US, " µs"),
    ]


def _cost_us(work: Callable[[Entry], object], entries: Sequence[Entry]) -> float:
    began = time.thread_time_ns()
    for entry in entries:
        work(entry)
    return (time.thread_time_ns() - began) / 1_000 / len(entries)

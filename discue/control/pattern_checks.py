"""Checks of schemas and filters of clients, whose patterns are measured.

Measuring takes up to some seconds of processor time. It runs on a thread, so that the event loop goes on, and one at a
time, so that it takes a share of the processor only.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from discue.control.context import ControlContext
from discue.domain.filter_parser import Condition, parse_filter
from discue.domain.model import SchemaLanguage
from discue.domain.pattern_speed import CpuTime
from discue.domain.schemas import Schema, parse_schema

T = TypeVar("T")


async def check_schema(control: ControlContext, text: bytes, language: SchemaLanguage) -> Schema:
    """Parse a new schema. Raises Unprocessable with a fault for each invalid place."""
    return await _measured(control, lambda cpu_time: parse_schema(text, language, cpu_time))


async def check_filter(control: ControlContext, text: object) -> Condition | None:
    """Parse a new filter; None unless the request has one. Raises Unprocessable with a fault for each invalid place."""
    if not isinstance(text, str):
        return None
    return await _measured(control, lambda cpu_time: parse_filter(text.encode(), "/filter", cpu_time))


async def _measured(control: ControlContext, parse: Callable[[CpuTime], T]) -> T:
    async with control.measuring:
        return await asyncio.to_thread(parse, time.thread_time_ns)

"""The plans of PostgreSQL statements: those that an engine's session makes once and keeps."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from discue.store.engine import Transaction
from discue.store.tables import on_server

_BOUNDED = ("Function Scan", "Values Scan", "Result", "WorkTable Scan")
_JOINS = ("Hash Join", "Merge Join")
# It has at most one row per process.
_SMALL = "worker_pkey"


async def slow_steps(tx: Transaction, sql: str) -> list[str]:
    """Steps that read a whole table or index, or sort what is read from one."""
    return list(_slow(await _plan(tx, sql), limited=False))


async def index_conditions(tx: Transaction, sql: str) -> dict[str, str]:
    """By which part of which index the statement reads."""
    steps = _steps(await _plan(tx, sql))
    return {step["Index Name"]: step.get("Index Cond", "") for step in steps if "Index Name" in step}


async def _plan(tx: Transaction, sql: str) -> dict[str, Any]:
    parameters = max(map(int, re.findall(r"\$(\d+)", sql)), default=0)
    # By the same name each time: a transaction starts again at each statement that its connection does not know yet.
    name = f"explained_{sha256(sql.encode()).hexdigest()[:20]}"
    if not await tx.rows("SELECT name FROM pg_prepared_statements WHERE name = $1", name):
        await tx.execute(f"PREPARE {name} AS {on_server(sql)}")
    arguments = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    [(plan,)] = await tx.rows(f"EXPLAIN (FORMAT JSON) EXECUTE {name}{arguments}")
    root: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return root


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for below in step.get("Plans", ()):
        yield from _steps(below)


def _slow(step: dict[str, Any], *, limited: bool) -> Iterator[str]:
    kind = step["Node Type"]
    if kind in _JOINS or kind.startswith("Bitmap"):
        yield kind
    if kind == "Seq Scan":
        yield f"{kind} on {step['Relation Name']}"
    is_whole_index = kind in ("Index Scan", "Index Only Scan") and "Index Cond" not in step
    if is_whole_index and not limited and step["Index Name"] != _SMALL:
        yield f"{kind} of all {step['Index Name']}"
    if kind in ("Sort", "Incremental Sort") and not _is_bounded(step):
        yield f"{kind} by {', '.join(step['Sort Key'])}"
    for below in step.get("Plans", ()):
        yield from _slow(below, limited=limited or kind == "Limit")


def _is_bounded(step: dict[str, Any]) -> bool:
    """Whether a step has only rows that the statement itself brings, or a limited number of others."""
    below = step.get("Plans", ())
    if step["Node Type"] in (*_BOUNDED, "Limit"):
        return True
    return bool(below) and all(_is_bounded(each) for each in below)

"""What does the dashboard cost: each page of a large organization, browsers that only look, and a browser at work?"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import apsw
import msgspec

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.browser import Browser, Watching
from benchmarks.measures.samples import Series, Used, answered, delivered
from benchmarks.medians import quantile, ratio
from benchmarks.population import Models, Population, make
from benchmarks.product import Listener, Product, Queue
from benchmarks.shop import name_of, open_shop, paths
from benchmarks.table import Row, at_most, below, holds, seen
from tests.support.dashboard_shop import Shop

_LARGE, _PLAIN = "dashboard", "dashboard-off"
_PAGE_MS = 20
_PAGE_BYTES = 60_000
_FIRST_PAINT = 2
_WARM_LOADS = 3
_LOADS_A_PAIR = 5
_BROWSERS = 100
_BROWSERS_SHARE = 2.0
_OF_OFF = 1.03
_BLOCKING = re.compile(rb'<link rel="stylesheet"|<script(?![^>]*type="module")[^>]* src=')


def measure(bench: Bench) -> list[Row]:
    with bench.product(_LARGE) as product:
        shop = open_shop(bench, product)
    in_a_file, rows = _on_sqlite(bench, shop)
    with bench.product_on_postgres(_LARGE) as product:
        shop = open_shop(bench, product)
    make(_population(bench, shop), lambda sql: bench.postgres.run(_LARGE, sql))
    with bench.product_on_postgres(_LARGE) as product:
        on_a_server = _pages(bench, product, shop)
    return [*_page_rows(in_a_file, on_a_server), *rows]


def _on_sqlite(bench: Bench, shop: Shop) -> tuple[Mapping[str, "_Found"], list[Row]]:
    path = bench.folder / f"{_LARGE}.db"
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA synchronous = OFF")
        make(_population(bench, shop), lambda sql: [*connection.execute(sql)])
        [*connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")]
    finally:
        connection.close()
    shutil.copy(path, bench.folder / f"{_PLAIN}.db")
    with bench.product(_LARGE) as product:
        found = _pages(bench, product, shop)
        rows = [_browsers(bench, product)]
        with bench.product(_PLAIN, settings={"dashboard": False}) as plain:
            rows += _at_work(bench, plain, product)
    return found, rows


def _population(bench: Bench, shop: Shop) -> Population:
    models = Models(
        queue=shop.queue,
        listener=shop.listeners["tax-report"],
        disabled=shop.listeners["old-shop"],
        missing=shop.listeners["crm-sync"],
    )
    effort = bench.effort
    return Population(models, effort.queues, effort.queues * 10, effort.waiting, effort.waiting)


class _Found(msgspec.Struct, frozen=True):
    """How long a page took, and the processor time of the worker and of a database apart from it, in milliseconds."""

    p50: float
    p95: float
    cpu: float
    store_cpu: float
    size: int
    requests: int
    """Before the first paint: the page, and what keeps the browser from painting it."""


def _pages(bench: Bench, product: Product, shop: Shop) -> Mapping[str, _Found]:
    """Every page, by its name."""
    product.rest()
    browser = Browser(product)
    try:
        return {name_of(path, shop): _loaded(bench, product, browser, path) for path in paths(browser, shop)}
    finally:
        browser.close()


def _loaded(bench: Bench, product: Product, browser: Browser, path: str) -> _Found:
    page = [browser.load(path) for _ in range(_WARM_LOADS)][-1]
    used = Used(product)
    times = [browser.load(path).seconds * 1_000 for _ in range(_LOADS_A_PAIR * bench.effort.pairs)]
    sample = used.sample(len(times), sum(times))
    return _Found(
        quantile(times, 0.5),
        quantile(times, 0.95),
        sample.cpu_us / 1_000,
        sample.store_us / 1_000,
        len(page.content),
        1 + len(_BLOCKING.findall(page.content)),
    )


def _page_rows(in_a_file: Mapping[str, _Found], on_a_server: Mapping[str, _Found]) -> list[Row]:
    found = [*in_a_file.values(), *on_a_server.values()]
    slowest, slowest_on_a_server = (max(each.p95 for each in pages.values()) for pages in (in_a_file, on_a_server))
    return [
        *(_page_row(name, each, on_a_server[name]) for name, each in in_a_file.items()),
        at_most("dashboard, slowest page on SQLite, p95", slowest, _PAGE_MS, " ms"),
        at_most("dashboard, slowest page on PostgreSQL, p95", slowest_on_a_server, _PAGE_MS, " ms"),
        at_most("dashboard, largest page", max(each.size for each in found) / 1_000, _PAGE_BYTES / 1_000, " kB"),
        at_most("dashboard, requests before the first paint", max(each.requests for each in found), _FIRST_PAINT),
    ]


def _page_row(name: str, in_a_file: _Found, on_a_server: _Found) -> Row:
    size = max(in_a_file.size, on_a_server.size)
    return holds(
        f"dashboard, {name}",
        f"SQLite {_times(in_a_file)}; PostgreSQL {_times(on_a_server)}; {size / 1_000:.1f} kB",
        f"p95 ≤ {_PAGE_MS} ms, ≤ {_PAGE_BYTES // 1_000} kB",
        met=max(in_a_file.p95, on_a_server.p95) <= _PAGE_MS and size <= _PAGE_BYTES,
    )


def _times(found: _Found) -> str:
    store = f" + {found.store_cpu:.1f}" if found.store_cpu else ""
    return f"p50 {found.p50:.1f}, p95 {found.p95:.1f} ms, CPU {found.cpu:.1f}{store} ms"


def _browsers(bench: Bench, product: Product) -> Row:
    """The processor time of open browsers while nothing happens, beyond that of a server without them."""
    product.rest()
    alone = _idle_share(bench, product)
    with ExitStack() as opened:
        for _ in range(_BROWSERS):
            browser = Browser(product)
            opened.callback(browser.close)
            opened.enter_context(browser.listen())
        product.rest()
        watched = _idle_share(bench, product)
    name = f"dashboard, {_BROWSERS} open browsers when nothing happens"
    return below(f"{name}, with none {alone:.1f} %", watched - alone, _BROWSERS_SHARE, " % of a core more")


def _idle_share(bench: Bench, product: Product) -> float:
    before = product.cpu_seconds()
    time.sleep(bench.effort.idle_seconds)
    return (product.cpu_seconds() - before) / bench.effort.idle_seconds * 100


def _at_work(bench: Bench, plain: Product, product: Product) -> list[Row]:
    """Publishing and delivering in turns: without a dashboard, with one, and with an overview that a browser watches.

    Watched and not watched are measured on one server: two servers with the same settings differ by some percent.
    """
    names = ("off", "on", "watched")
    published = [Series(f"publish, dashboard {name}") for name in names]
    ends = [Series(f"end to end, dashboard {name}") for name in names]
    ready = [(each, each.queue(), _heard(bench, each)) for each in (plain, product)]
    sides = [(*ready[0], False), (*ready[1], False), (*ready[1], True)]
    loads = 0
    turns = list(enumerate(sides))
    for counts in (False, *[True] * bench.effort.pairs):
        for index, (each, silent, (heard, listener), is_watched) in turns:
            with _watched(each, is_watched=is_watched) as watching:
                first = answered(bench, each, each.load(silent, body.single(body.MESSAGE)))
                second = delivered(bench, each, heard, (listener,))
            loads += watching()
            published[index].samples.extend([first] * counts)
            ends[index].samples.extend([second] * counts)
        # What changes with time must not fall on one side.
        turns.reverse()
    rows = [series.row() for series in (*published, *ends)]
    for name, (off, on, watched) in (("publish", published), ("end to end", ends)):
        rows.append(at_most(f"{name}, dashboard on ÷ off, CPU", ratio(on.costs, off.costs), _OF_OFF))
        rows.append(at_most(f"{name}, dashboard watched ÷ not watched, CPU", ratio(watched.costs, on.costs), _OF_OFF))
        rows.append(seen(f"{name}, dashboard watched ÷ not watched, rate", f"{ratio(watched.rates, on.rates):.3f}"))
    return [*rows, seen("pages that the browser loaded meanwhile", str(loads))]


def _heard(bench: Bench, product: Product) -> tuple[Queue, Listener]:
    queue = product.queue()
    return queue, product.listener(queue, bench.sink.url)


@contextmanager
def _watched(product: Product, *, is_watched: bool) -> Iterator[Callable[[], int]]:
    """A browser shows the overview while the block runs; how often it loaded it."""
    if not is_watched:
        yield lambda: 0
        return
    with Watching(product, "") as watching:
        yield lambda: watching.loads

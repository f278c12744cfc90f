"""How fast is delivery if nothing is pinned: server, load and listener share both cores?"""

from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.loads import Loads
from benchmarks.measures.samples import Series, delivered
from benchmarks.sink import Sink
from benchmarks.table import Row


def measure(bench: Bench) -> list[Row]:
    cores = (bench.server_core, bench.load_core)
    series = Series("end to end on two cores, unpinned")
    sink = Sink(bench.folder, *cores)
    with ExitStack() as stack:
        stack.enter_context(sink.child)
        product = stack.enter_context(bench.product("unpinned", cores=cores))
        queue = product.queue()
        listeners = (product.listener(queue, sink.url),)
        for counts in (False, *[True] * bench.effort.pairs):
            sample = delivered(bench, product, queue, listeners, loads=Loads(bench.folder, *cores))
            series.samples.extend([sample] * counts)
    return [series.row()]

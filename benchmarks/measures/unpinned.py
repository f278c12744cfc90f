"""How fast is delivery if server, load and listener share both cores, and if the server is bound to one of them?"""

from benchmarks.bench import Bench
from benchmarks.loads import Loads
from benchmarks.measures.samples import Series, delivered
from benchmarks.medians import ratio
from benchmarks.sink import Sink
from benchmarks.table import Row, seen


def measure(bench: Bench) -> list[Row]:
    cores = (bench.server_core, bench.load_core)
    free, bound = Series("end to end on two cores, unpinned"), Series("end to end on two cores, server on one")
    sink = Sink(bench.folder, *cores)
    with (
        sink.child,
        bench.product("unpinned", cores=cores) as on_both,
        bench.product("bound", cores=(bench.server_core,)) as on_one,
    ):
        sides = [(series, product, product.queue()) for series, product in ((free, on_both), (bound, on_one))]
        listeners = [product.listener(queue, sink.url) for _, product, queue in sides]
        for counts in (False, *[True] * bench.effort.pairs):
            for (series, product, queue), listener in zip(sides, listeners, strict=True):
                sample = delivered(bench, product, queue, (listener,), loads=Loads(bench.folder, *cores))
                series.samples.extend([sample] * counts)
    gain = ratio(bound.rates, free.rates)
    return [free.row(), bound.row(), seen("rate of a server on one core ÷ on two", f"{gain:.2f}")]

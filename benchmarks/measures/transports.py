"""What does a publish cost over TLS and over HTTP/2?"""

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.measures.samples import Sample, Series, Used, answered
from benchmarks.medians import ratio
from benchmarks.product import Product
from benchmarks.table import Row, seen

HTTP2_CONNECTIONS = 8
"""With 16 requests at once on each, 128 are in flight."""


class _Side:
    """A running service, with publishes over both versions of HTTP."""

    def __init__(self, bench: Bench, product: Product, name: str) -> None:
        self._bench = bench
        self._product = product
        queue, single = product.queue(), body.single(body.MESSAGE)
        self._http1 = product.load(queue, single)
        self._http2 = product.load(queue, single, connections=HTTP2_CONNECTIONS)
        self.http1 = Series(f"publish over HTTP/1.1, {name}")
        self.http2 = Series(f"publish over HTTP/2, {name}")

    def publish_once(self, *, counts: bool) -> None:
        self.http1.samples.extend([answered(self._bench, self._product, self._http1)] * counts)
        self.http2.samples.extend([self._over_http2()] * counts)

    def _over_http2(self) -> Sample:
        used = Used(self._product)
        return used.sample(*self._bench.loads.run_http2(self._http2, self._bench.effort.seconds))


def measure(bench: Bench) -> list[Row]:
    with bench.product("clear") as clear, bench.product("tls", settings={"tls_self_signed": True}) as encrypted:
        sides = (_Side(bench, clear, "cleartext"), _Side(bench, encrypted, "TLS"))
        for counts in (False, *[True] * bench.effort.pairs):
            for side in sides:
                side.publish_once(counts=counts)
    plain, tls = sides
    return [
        *(series.row() for side in sides for series in (side.http1, side.http2)),
        seen("CPU over HTTP/1.1, TLS ÷ cleartext", f"{ratio(tls.http1.costs, plain.http1.costs):.2f}"),
        seen("CPU over HTTP/2, TLS ÷ cleartext", f"{ratio(tls.http2.costs, plain.http2.costs):.2f}"),
    ]

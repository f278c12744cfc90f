"""What reading costs, and what a publish costs with all that can be checked about it."""

import msgspec

from benchmarks import body
from benchmarks.bench import Bench
from benchmarks.loads import Load
from benchmarks.measures.samples import Series, answered
from benchmarks.medians import ratio
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_least, at_most

LISTED = 100
HIGH_RATE = 2_000_000_000
"""A limit that is counted against, and never reached."""

SCHEMA = {
    "stamp": {"type": "number", "min": 0},
    "kind": {"type": "string", "enum": ["invoice.paid", "invoice.sent"]},
    "text": {"type": "string", "pattern": "^[a-z]*$", "max": 1_000},
}

_OF_ECHO = 0.4
_LISTS_PER_SECOND = 1_000
_OF_PLAIN = 1.3


class Reading:
    """Rounds of all, one after another."""

    def __init__(self) -> None:
        self.echo = Series("echo")
        self.queue = Series("GET of a queue")
        self.key = Series("GET of an API key")
        self.listed = Series(f"list of {LISTED} queues")
        self.plain = Series("publish without limits")
        self.checked = Series("publish with rate limit, schema and idempotency key")

    @property
    def all(self) -> tuple[Series, ...]:
        return self.echo, self.queue, self.key, self.listed, self.plain, self.checked

    def rows(self) -> list[Row]:
        return [
            *(one.row() for one in self.all),
            at_least("GET of a queue ÷ echo", ratio(self.queue.rates, self.echo.rates), _OF_ECHO),
            at_least("GET of an API key ÷ echo", ratio(self.key.rates, self.echo.rates), _OF_ECHO),
            at_least(f"list of {LISTED} queues", self.listed.rate, _LISTS_PER_SECOND, "/s"),
            at_most("publish with all of these ÷ without, CPU", ratio(self.checked.costs, self.plain.costs), _OF_PLAIN),
        ]


def measure(bench: Bench) -> list[Row]:
    found = Reading()
    with bench.product("control-plane") as product:
        product.ask("PUT", _organization(product), {"rate_limit": 0})
        plain, checked = product.queue(), product.queue(schema=SCHEMA)
        for _ in range(LISTED - 2):
            product.queue()
        for warm in (False, *[True] * bench.effort.pairs):
            one = found if warm else Reading()
            _take_samples(bench, product, (plain, checked), one)
    return found.rows()


def _take_samples(bench: Bench, product: Product, queues: tuple[Queue, Queue], one: Reading) -> None:
    plain, checked = queues
    single = body.single(body.MESSAGE)
    echo = Load(f"http://127.0.0.1:{product.port}/v1/echo", single)
    for series, load in (
        (one.echo, echo),
        (one.queue, product.get(plain.path)),
        (one.key, product.get(_key(product))),
        (one.listed, product.get(f"/v1/queues?per_page={LISTED}")),
        (one.plain, product.load(plain, single)),
    ):
        series.samples.append(answered(bench, product, load))
    product.ask("PUT", _organization(product), {"rate_limit": HIGH_RATE})
    once = msgspec.structs.replace(product.load(checked, single), once=True)
    one.checked.samples.append(answered(bench, product, once))
    product.ask("PUT", _organization(product), {"rate_limit": 0})


def _organization(product: Product) -> str:
    return f"/v1/organizations/{product.ask('GET', '/v1/organizations')['organizations'][0]['id']}"


def _key(product: Product) -> str:
    return f"/v1/api_keys/{product.ask('GET', '/v1/api_keys')['api_keys'][0]['id']}"

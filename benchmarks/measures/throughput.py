"""How fast is it: publishing, delivering, and both against what they are made of."""

import hmac

from benchmarks import body, cpu
from benchmarks.bench import Bench
from benchmarks.child import Child
from benchmarks.failure import BenchmarkFailed
from benchmarks.kernel import KernelCalls
from benchmarks.loads import Load
from benchmarks.measures.samples import Sample, Series, answered, delivered, sent
from benchmarks.medians import median, ratio
from benchmarks.product import Listener, Product, Queue
from benchmarks.table import Row, at_least, at_most, seen

BATCH_MESSAGES = 100
BATCH_CONNECTIONS = 16
"""So many batches at once stay below what may wait for the store."""

_REQUESTS_PER_SECOND = 30_000
_PUBLISH_OF_ECHO = 0.5
_END_TO_END_OF_LIMIT = 0.45
_END_TO_END_PER_SECOND = 6_000
_BATCH_PER_SECOND = 30_000
_END_TO_END_OF_BARE_PAIR = 6.8
_SYSTEM_CALLS = 11.5
_ACCEPTED_PER_SECOND = 1_000
_SECRET = "secret"


class Throughput:
    """Series whose rounds alternate, so that a disturbance affects all of them."""

    def __init__(self) -> None:
        self.bare_server = Series("bare server")
        self.bare_client = Series("bare client")
        self.echo = Series("echo")
        self.publish = Series("publish")
        self.batch = Series("publish batch of 100, a message")
        self.sender = Series("sender alone")
        self.end_to_end = Series("end to end")
        self.shown = Series("end to end, responses shown")
        self.accepted = Series("accepted by a source")
        self.system_calls: list[Row] = []

    def rows(self) -> list[Row]:
        series = (
            self.bare_server,
            self.bare_client,
            self.echo,
            self.publish,
            self.batch,
            self.sender,
            self.end_to_end,
            self.shown,
            self.accepted,
        )
        pairs = [server + client for server, client in zip(self.bare_server.costs, self.bare_client.costs, strict=True)]
        return [
            *(one.row() for one in series),
            at_most("end to end ÷ bare pair, CPU", ratio(self.end_to_end.costs, pairs), _END_TO_END_OF_BARE_PAIR),
            seen("publish ÷ bare server, CPU", f"{ratio(self.publish.costs, self.bare_server.costs):.2f}"),
            *self.system_calls,
            at_least("publish ÷ echo", ratio(self.publish.rates, self.echo.rates), _PUBLISH_OF_ECHO),
            at_least("publish batch of 100, messages", self.batch.rate, _BATCH_PER_SECOND, "/s"),
            at_least("end to end", self.end_to_end.rate, _END_TO_END_PER_SECOND, "/s"),
            at_least("accepted by a source", self.accepted.rate, _ACCEPTED_PER_SECOND, "/s"),
            at_least("end to end ÷ limit of echo and sender", self._end_to_end_of_limit(), _END_TO_END_OF_LIMIT),
            seen("both ratios by CPU instead of rate", self._shares_of_cpu()),
        ]

    def _shares_of_cpu(self) -> str:
        """The same ratios from CPU alone: what they are when nothing else takes a part of the server's core."""
        publish = ratio(self.echo.costs, self.publish.costs)
        limits = [echo + sender for echo, sender in zip(self.echo.costs, self.sender.costs, strict=True)]
        return f"publish {publish:.2f}, end to end {ratio(limits, self.end_to_end.costs):.2f}"

    def _end_to_end_of_limit(self) -> float:
        rounds = zip(self.echo.rates, self.sender.rates, self.end_to_end.rates, strict=True)
        return median(rate * (1 / echo + 1 / sender) for echo, sender, rate in rounds)


def measure(bench: Bench) -> tuple[Throughput, list[Row]]:
    found = Throughput()
    with (
        bench.product("throughput") as product,
        bench.product("shown", settings={"show_private_responses": True}) as showing,
        bench.sender_alone() as sender,
        bench.bare_pair() as bare,
    ):
        silent, heard, shown = product.queue(), product.queue(), showing.queue()
        listener, shown_listener = product.listener(heard, bench.sink.url), showing.listener(shown, bench.sink.url)
        single, batch = body.single(body.MESSAGE), body.batch(body.MESSAGE, BATCH_MESSAGES)
        bare_load = Load(f"http://127.0.0.1:{bare.hear()['port']}/", single)
        echo = Load(f"http://127.0.0.1:{product.port}/v1/echo", single)
        publish = product.load(silent, single)
        accepted = _requests_to_a_source(product, silent, single)
        batches = product.load(silent, batch, connections=BATCH_CONNECTIONS)
        requests = bench.effort.seconds * _REQUESTS_PER_SECOND
        for warm in (False, *[True] * bench.effort.pairs):
            one = found if warm else Throughput()
            one.bare_server.samples.append(_served(bench, bare, bare_load))
            one.bare_client.samples.append(sent(bench, bare, requests))
            one.echo.samples.append(answered(bench, product, echo))
            one.publish.samples.append(answered(bench, product, publish))
            one.batch.samples.append(answered(bench, product, batches, BATCH_MESSAGES))
            one.accepted.samples.append(answered(bench, product, accepted))
            one.sender.samples.append(sent(bench, sender, requests))
            one.end_to_end.samples.append(delivered(bench, product, heard, (listener,)))
            one.shown.samples.append(delivered(bench, showing, shown, (shown_listener,)))
        found.system_calls = _system_calls(bench, product, heard, listener)
    return found, found.rows()


def _requests_to_a_source(product: Product, queue: Queue, content: bytes) -> Load:
    """Signed requests, each with an id of its own. The load sends a key, here the signature, and an idempotency key."""
    fields = {"provider": "hmac", "secrets": [_SECRET], "header": "x-api-key", "id_header": "idempotency-key"}
    source = product.made("/v1/sources", queue_id=queue.id, **fields)
    signature = hmac.digest(_SECRET.encode(), content, "sha256").hex()
    return Load(f"http://127.0.0.1:{product.port}/in/{source}", content, signature, once=True)


def _served(bench: Bench, bare: Child, load: Load) -> Sample:
    before = cpu.cpu_seconds(bare.pid)
    answers = bench.loads.run(load, bench.effort.seconds)
    used = cpu.cpu_seconds(bare.pid) - before
    return Sample(answers.requests / answers.seconds, used / answers.requests * 1e6)


def _system_calls(bench: Bench, product: Product, queue: Queue, listener: Listener) -> list[Row]:
    already = product.counts(listener).acknowledged
    try:
        with KernelCalls(product.pid) as calls:
            delivered(bench, product, queue, (listener,))
    except BenchmarkFailed as error:
        return [seen("end to end, system calls a message", str(error))]
    messages = product.counts(listener).acknowledged - already
    return [
        at_most("end to end, system calls a message", calls.system_calls / messages, _SYSTEM_CALLS),
        seen("end to end, context switches a message", f"{calls.context_switches / messages:.2f}"),
    ]

"""The banned words, phrases and names, each with what to write instead."""

import re
from typing import Final

PHRASES: Final[dict[str, str]] = {
    r"the same,": "name the subject",
    r"(?<![\w,;:] )of which\b": "name the subject",
    r"(?:^|(?<=[.!?] ))one that\b": "name the subject",
    r"who(?:m)?ever\b": "name the subject",
    r"anew\b": "again",
    r"beside\b": "next to; in addition to",
    r"under way\b": "in flight; running",
    r"without a word\b": "silently; without a response",
    r"(?:is|are|was|were|be) another ones?\b": "changed; differs",
    r"(?:has|have|had|having) to do with\b": "concerns",
    r"(?:brought|bring|brings|bringing) about\b": "caused",
    r"became of\b": "the outcome of; the state of",
    r"decide anew\b": "try again",
    r"(?:has|have|had) no wish to\b": "does not want to",
    r"what (?:is|was|are|were) (?:there|not there)\b": "name the thing that exists",
    r"(?:^|(?<=[.!?] ))so (?:many|much|long)\b": "subject first",
    r"(?:^|(?<=[.!?:] ))since when\b": "the time since",
    r"of (?:theirs|ours|yours|his|hers)\b": "name the owner",
    r"whose turn\b": "next",
    r"(?:keeps?|keeping|kept) house\b": "runs on the leader",
    r"take(?:s|n)? (?:itself|themselves) for\b": "assumes that it is",
    r"(?:^|(?<=[.!?] ))those (?!\w+s )\w+\b": "name the subject",
    r"(?:^|(?<=[.!?] ))(?-i:What) \w+\b(?![^.]*\?)": "a noun phrase, or subject first",
}
"""Regular expressions that begin at the start of a word, for text of every kind. `^` is the start of a text."""

WORDS: Final[dict[str, str]] = {
    r"house(?:s|keepers?|keeping)?": "leader; retention; maintenance",
    r"turnstiles?": "keyed semaphore",
    r"paces?|paced": "rate; token bucket",
    r"guests?": "inherited requests",
    r"parting": "handover",
    r"surroundings": "context",
    r"holdbacks?|passages?": "circuit breaker",
    r"unblocking": "redelivery; ordering",
    r"incarnations?": "session id",
    r"sampler": "test sender",
    r"sifting|sifted|sifts": "filtering; filtered pages",
    r"tenure": "lease",
    r"standings?": "health",
    r"verdicts?": "classification; result",
    r"visitors?": "pull client",
    r"astray": "unrouted",
    r"missed ranges? of": "range of missed messages",
    r"(?:an|the|its|their|this|each|every|no|whose|of|bounded|one|any) answers?": "response",
    r"desks?": "long-poll waiters",
    r"bury|buries|buried": "expire",
    r"forsaken": "orphaned",
    r"(?:a|the|its|their|by|with|of|each|every|that|this|no|another) gates?": "concurrency limiter",
    r"(?:the|a|its|their|each|every|this|that) trips?": "timings",
}
"""Regular expressions of whole words, for text of every kind."""

PAGE_WORDS: Final[dict[str, str]] = {
    r"exceptions?": "delivery state row",
    r"hints?": "notification",
}
"""Like WORDS, for the pages of documentation only: in code they are also words of Python."""

IDENTIFIERS: Final[dict[str, str]] = {
    r"exceptions?": "delivery row",
    r"house|housekeeper|housekeeping": "leader; retention; maintenance",
    r"turnstiles?": "keyed semaphore",
    r"pace|paces|paced": "token bucket; rate",
    r"sharing|fairness": "fair share",
    r"gates?": "concurrency limiter",
    r"congestion|congested": "adaptive concurrency",
    r"allowances?": "rate limiter; budget slice",
    r"runs_of|stretch|stretches": "intervals",
    r"founding|founded": "organizations",
    r"key_rescue|rescue": "admin keys",
    r"key_text": "API key",
    r"sift|sifts|sifted|sifting": "filtered pages",
    r"verdicts?": "classify",
    r"answers?|answered|answering": "response",
    r"sampler|samplers": "test sender",
    r"trips?": "timings",
    r"envelopes?": "request checks",
    r"advice": "documentation links",
    r"bury|buried|burial": "expire worker",
    r"forget|forgets|forgotten|forgetting": "delete; evict",
    r"forsaken": "orphaned",
    r"incarnations?": "session id",
    r"tell|tells|told|telling": "notify",
    r"heard": "on_notify",
    r"ring|rings": "wake",
    r"see_off|seen_off": "disconnect",
    r"looks?(?!_up)": "check",
    r"wish|wishes|wished": "params",
    r"given_up": "drop_reason",
    r"wants": "accepts",
    r"places": "slots",
    r"has_turn": "may_send_now",
    r"took|took_ms": "duration_ms",
    r"began|begun": "started_at",
    r"era|eras": "epoch",
    r"at_gate": "is_queued",
    r"astray": "admit unrouted",
    r"taste|tastes": "negotiate",
    r"showing": "with ETag",
    r"guests?": "inherited requests",
    r"parting|handed_over": "handover",
    r"surroundings": "context",
    r"unblocking": "redelivery; ordering",
    r"holdbacks?|passages?": "circuit breaker",
    r"reloading": "lane registry",
    r"desks?|visitors?|pull_round": "waiters; client; session; receive",
    r"alarms?|standings?": "timers; health",
    r"doubts?|doubted|in_doubt": "invalidate",
    r"may_judge|may_stay|start_over": "may expire peers; is active; reset",
    r"heed|leash|patience|obey": "apply; parent pipe; timeout; handle",
    r"tenure": "lease",
    r"brought|brings": "result",
    r"whatever|whoever|anew|beside|under_way": "the standard term",
}
"""Regular expressions of whole parts of a name that is defined. `AtGate` has the parts `at` and `gate`."""

NAMES: Final[dict[str, str]] = {
    r"Hint|Polled|Member": "Notification; ClusterSnapshot; WorkerRow",
    r"Draft|Place|Recent": "NewMessage; LogPosition; LruCache",
    r"Progress|Flights?|Opening|Lanes": "CursorState; InFlightAttempt; CircuitBreaker; LaneRegistry",
    r"_?[A-Za-z]*(?:Asked|Chosen|Handed|Wish)[A-Za-z]*": "Params; Selection; LeasedMessage",
    r"_?(?:reach|means|[Rr]each|[Mm]eans)": "context",
    r"present": "require",
    r"flights?": "in-flight attempt",
}
"""Regular expressions of whole names that are defined."""

_SEE: Final = "see the dictionary"

FILES: Final[dict[str, str]] = {
    r".*/(?:once|keeping)\.py": "idempotency",
    r".*/(?:turnstile|pace|sharing|gate|fairness|congestion|allowance|request_rates|recent)\.py": _SEE,
    r".*/(?:missed_ranges|stretches|names|naming|key_text|receipts|founding|key_rescue)\.py": _SEE,
    r".*/(?:sifting|received|verdict|answer|sampler|trip|envelope|advice)\.py": _SEE,
    r".*/store/(?:commit|stream|logs)\.py": "store; group commit; message log",
    r".*/api/transport\.py": "RSGI adapter",
    r".*/(?:guests|parting|handed_over|surroundings|reach|means)\.py": _SEE,
    r".*/(?:unblocking|opening|holdback|passage)\.py": _SEE,
    r".*/(?:starting|settling|lanes|reloading)\.py": _SEE,
    r".*/(?:desk|visitor|pull_round|housekeeper)\.py": _SEE,
    r".*/dispatch/.*/?(?:progress|flight|watch|alarms|standings)\.py": _SEE,
    r".*/cli/(?:ending|place|stopping)\.py": "exit codes; worker pipe; signals",
    r".*/store/(?:.*_)?(?:turn|survey|links|wake)\.py": "file lock; inspect; pool; notify",
    r".*/store/.*/(?:turn|survey|links|wake)\.py": "file lock; inspect; pool; notify",
    r"(?:.*/)?(?:[^/]*_)?(?:managers?|utils?|helpers?|commons?)(?:_[^/]*)?\.[a-z]+": "say what it holds",
}
"""Regular expressions of whole paths of files."""

OPENINGS: Final = (
    "Of|As|One|Those|Its|And|The same|What|Which|Who|Whose|Whom|Whoever|Whatever|Why|Where|That|So|Or|But|Such|Their"
    "|Theirs|Else|Likewise|Also|Nor|Because|There|In the place of|Since when"
    "|At whose|For whom|For which|To whom|With which"
)
"""How no docstring begins."""

FUNCTION_OPENINGS: Final = (
    "The|A|An|All|Each|Every|No|Nothing|Everything|It|They|He|This|These|Both|Only|Until|After|Before|In|On|At|By|To"
    "|From|With|Without|For|How|When|Some|Something|Somebody|Nobody|Anything|Another|Other|None|Not|Now|Two|Three|Our|Us"
)
"""How the docstring of a function that is no property does not begin either: it begins with a verb."""

_VAGUE: Final = (
    "what|who|whom|whose|whoever|which|those|it|its|he|they|one_that|the_same|of|as|nothing|nobody|somebody|something"
    "|everything|where|that|so|and|there|this|here|else|whatever"
)
_HOME_MADE: Final = (
    "whoever|anew|beside|under_way|brought_about|became_of|house|housekeeper|guests?|gate|turnstile|pace|desk"
)
_RIDDLES: Final = (
    "what_is|what_was|what_came|what_it|what_they|what_has|that_is_there|is_another_one|another_one|of_theirs"
)

TEST_NAMES: Final[dict[str, str]] = {
    rf"^test_(?:{_VAGUE})_": "name the subject first",
    rf"_(?:{_HOME_MADE})(?:_|$)": "the standard term",
    rf"_(?:{_RIDDLES})(?:_|$)": "name the thing",
    r"^test_[a-z]+$": "state a fact",
}
"""Regular expressions that the name of a test function or file does not contain."""

EXCEPTIONS: Final[tuple[tuple[str, str, str], ...]] = (
    # Names that the standard library or a dependency prescribes.
    (r".*", "identifier", r"`(?:set_exception|\w*exception_handler|exc_\w+|return_exceptions|exception)`"),
    (r".*", "identifier", r"`(?:quota_gate|QuotaGate|\w*[Ss]hared\w*)`"),
    (r".*", "test-name", r"quota_gate"),
    # Fields of the API, which clients know.
    (r"discue/(?:api|control|domain)/.*", "identifier", r"`(?:pace|took_ms)`"),
    # Columns of tables, and a field of stored JSON.
    (r"discue/store/.*", "identifier", r"`(?:pace|begun_at)`"),
    (r"discue/store/.*", "word", r"updated_at, pace,|spec pace"),
    (r"docs/.*", "path", r"`\.discue/`|\?:"),
)
"""Legitimate uses: a regular expression of the path, the rule, and a regular expression found in the hit's text."""

_WORD_START: Final = r"(?<![\w'’-])"


def compiled(table: dict[str, str], *, whole_words: bool) -> list[tuple[re.Pattern[str], str]]:
    """Compile a table of text patterns. Case is ignored."""
    tail = r"(?![\w-])" if whole_words else ""
    return [
        (re.compile(f"{'' if regex.startswith('(?:^') else _WORD_START}(?:{regex}){tail}", re.IGNORECASE), advice)
        for regex, advice in table.items()
    ]

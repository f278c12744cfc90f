"""The bounds that the sender works within."""

import msgspec


class SenderLimits(msgspec.Struct, frozen=True):
    """How long connections are kept, how many, and how much of an answer is read.

    `connect_timeout_ms` covers resolving, connecting and TLS. A connection is used again within
    `idle_seconds` of its last answer, until it is `age_seconds` old. An answer whose head is longer than
    `head_bytes` fails; one that is longer than `answer_bytes` in all is cut, and its status decides.
    """

    connect_timeout_ms: int = 5_000
    idle_seconds: float = 15.0
    age_seconds: float = 60.0
    idle_connections: int = 10_000
    idle_connections_per_origin: int = 50
    head_bytes: int = 65_536
    answer_bytes: int = 262_144
    excerpt_bytes: int = 16_384

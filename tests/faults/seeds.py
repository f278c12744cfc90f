"""The seed of random choices: `TORTURE_SEED`, or a random one."""

import os


def new_seed() -> int:
    given = os.environ.get("TORTURE_SEED")
    return int(given) if given else int.from_bytes(os.urandom(4))

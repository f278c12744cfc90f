"""Errors of the test kit."""

from collections.abc import Sequence


class NotSettled(AssertionError):
    """Something that is due was not done in time. `str()` says what, and what it waits for."""

    def __init__(self, seconds: float, waiting: Sequence[str]) -> None:
        listed = waiting or ["The server still works on something that no message waits for."]
        super().__init__("\n  ".join([f"After {seconds:g} s, discue has not settled:", *listed]))
        self.waiting = tuple(waiting)


class KitClosed(RuntimeError):
    """The kit is used after its test or its `with` block."""

    def __init__(self) -> None:
        super().__init__(
            "This discue belonged to a test that has ended. Ask for the fixture `discue` in each test that uses it, "
            "or use discue.testing.serve() as a context manager."
        )

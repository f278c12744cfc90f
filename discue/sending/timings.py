"""How far a connection has come, and when."""

from collections.abc import Callable

from discue.domain.egress import IPAddress


class Trip:
    """Readings of the monotonic clock, 0 for what is still to come. `address` is the one that was last tried."""

    __slots__ = ("_now", "address", "begun_at", "connected_at", "opened_at", "resolved_at")

    def __init__(self, now: Callable[[], float], begun_at: float) -> None:
        self._now = now
        self.begun_at = begun_at
        self.resolved_at = 0.0
        self.connected_at = 0.0
        self.opened_at = 0.0
        self.address = ""

    def resolved(self) -> None:
        """There are addresses, and they may be sent to."""
        self.resolved_at = self._now()

    def tries(self, address: IPAddress, port: int) -> None:
        self.address = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        self.connected_at = 0.0

    def connected(self) -> None:
        """The address has answered; what is left, if anything, is TLS."""
        self.connected_at = self.connected_at or self._now()

    def opened(self, now: float) -> None:
        """The connection is ready."""
        self.opened_at = now
        self.connected_at = self.connected_at or now

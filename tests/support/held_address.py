"""Addresses that no other program gets before a server of this process listens there."""

from collections.abc import Iterator
from contextlib import contextmanager

from discue.server.http import Address, held_port
from tests.support.ports import HOST


@contextmanager
def held_address(host: str = HOST) -> Iterator[Address]:
    """Any free port. For as long as the block, the kernel gives it to nobody who asks it for one."""
    with held_port(Address(host, 0)) as port:
        yield Address(host, port, shared=True)

"""The repr of objects with secrets or data of customers, which logs and tracebacks may contain."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def shows(*names: str) -> Callable[[type[T]], type[T]]:
    """Let the repr of a class show only the attributes with these names."""

    def shown(self: object) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({values})"

    def changed(kind: type[T]) -> type[T]:
        kind.__repr__ = shown  # type: ignore[method-assign]
        return kind

    return changed

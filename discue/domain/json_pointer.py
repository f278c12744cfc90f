"""JSON pointers (RFC 6901), which errors use to name a place in a request."""

_MAX_NAME_CHARACTERS = 100


def escaped(name: str) -> str:
    """Return a member name as one step of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def unescaped(step: str) -> str:
    """Return the member name that one step of a pointer stands for."""
    return step.replace("~1", "/").replace("~0", "~")


def below(pointer: str, step: str | int) -> str:
    """Return the pointer to a member or element of the value at `pointer`. A long name is cut."""
    return f"{pointer}/{step if isinstance(step, int) else escaped(step[:_MAX_NAME_CHARACTERS])}"

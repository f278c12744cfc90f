"""JSON pointers (RFC 6901), as errors name places with them."""

_SHOWN_NAME = 100


def escaped(name: str) -> str:
    """A member's name as a step of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def below(pointer: str, step: str | int) -> str:
    """The place of a member or an element. Of a long name, the beginning is shown."""
    return f"{pointer}/{step if isinstance(step, int) else escaped(step[:_SHOWN_NAME])}"

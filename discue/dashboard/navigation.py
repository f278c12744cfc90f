"""The navigation: the pages in the sidebar, in groups."""

from typing import Final, NamedTuple


class NavigationEntry(NamedTuple):
    """A page in the sidebar."""

    title: str
    path: str
    needs: str
    """The resource that the user must be able to read; empty: everyone sees it."""
    key: str = ""
    """The key that opens it after `g`; empty: none."""


class NavigationGroup(NamedTuple):
    """Pages under one heading."""

    title: str
    entries: tuple[NavigationEntry, ...]


GROUPS: Final = (
    NavigationGroup(
        "Observe", (NavigationEntry("Overview", "", "", "o"), NavigationEntry("Missed", "/missed", "listeners", "x"))
    ),
    NavigationGroup(
        "Messaging",
        (
            NavigationEntry("Queues", "/queues", "queues", "q"),
            NavigationEntry("Listeners", "/listeners", "listeners", "l"),
        ),
    ),
    NavigationGroup("Access", (NavigationEntry("Users", "/users", "users", "u"),)),
)
"""Pages are added where they belong: `tests/dashboard` opens every one of them."""

"""The navigation: the pages in the sidebar, in groups."""

from typing import Final, NamedTuple

from discue.dashboard.visit import INBOX, INSTALLATION


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
        "Observe",
        (
            NavigationEntry("Overview", "", "", "o"),
            NavigationEntry("Missed", "/missed", "listeners", "x"),
            NavigationEntry("Redeliveries", "/jobs", "listeners", "r"),
            NavigationEntry("Events", "/events", "events", "e"),
            NavigationEntry("Inbox", "/inbox", INBOX, "i"),
        ),
    ),
    NavigationGroup(
        "Messaging",
        (
            NavigationEntry("Queues", "/queues", "queues", "q"),
            NavigationEntry("Listeners", "/listeners", "listeners", "l"),
            NavigationEntry("Topics", "/topics", "topics", "t"),
            NavigationEntry("Schedules", "/schedules", "messages", "s"),
            NavigationEntry("Schemas", "/schemas", "schemas", "m"),
        ),
    ),
    NavigationGroup(
        "Access",
        (
            NavigationEntry("Users", "/users", "users", "u"),
            NavigationEntry("Keys", "/keys", "api_keys", "k"),
            NavigationEntry("Domains", "/domains", "domains", "d"),
        ),
    ),
    NavigationGroup(
        "System",
        (
            NavigationEntry("Workers", "/workers", INSTALLATION, "w"),
            NavigationEntry("Settings", "/settings", INSTALLATION, "c"),
        ),
    ),
)
"""Pages are added where they belong: `tests/dashboard` opens every one of them."""

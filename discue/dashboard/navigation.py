"""The navigation: the pages in the sidebar, in groups, and the keys that pages react to."""

from typing import Final, NamedTuple

from discue.dashboard.visit import INBOX, INSTALLATION


class NavigationEntry(NamedTuple):
    title: str
    path: str
    needs: str
    """The resource that the user must be able to read; empty: everyone sees it."""
    key: str
    """The key that opens it after `g`."""


GROUPS: Final = {
    "Observe": (
        NavigationEntry("Overview", "", "", "o"),
        NavigationEntry("Missed", "/missed", "listeners", "x"),
        NavigationEntry("Redeliveries", "/jobs", "listeners", "r"),
        NavigationEntry("Events", "/events", "events", "e"),
        NavigationEntry("Inbox", "/inbox", INBOX, "i"),
    ),
    "Messaging": (
        NavigationEntry("Queues", "/queues", "queues", "q"),
        NavigationEntry("Listeners", "/listeners", "listeners", "l"),
        NavigationEntry("Topics", "/topics", "topics", "t"),
        NavigationEntry("Sources", "/sources", "channels", "n"),
        NavigationEntry("Schedules", "/schedules", "messages", "s"),
        NavigationEntry("Event types", "/event-types", "schemas", "y"),
        NavigationEntry("Schemas", "/schemas", "schemas", "m"),
    ),
    "Access": (
        NavigationEntry("Users", "/users", "users", "u"),
        NavigationEntry("Keys", "/keys", "api_keys", "k"),
        NavigationEntry("Domains", "/domains", "domains", "d"),
    ),
    "System": (
        NavigationEntry("Workers", "/workers", INSTALLATION, "w"),
        NavigationEntry("Settings", "/settings", INSTALLATION, "c"),
    ),
}
"""The groups by their titles. Pages are added where they belong: `tests/dashboard` opens every one of them."""


class Shortcut(NamedTuple):
    """A key, or two keys one after the other."""

    keys: str
    """Separated by a space."""
    does: str
    """The effect, to be read after the keys."""
    target: str = ""
    """The path that it opens; empty for an action of the script with the name `action`."""
    action: str = ""
    needs: str = ""
    """The resource that the user must be able to read, as in `NavigationEntry`."""


OF_ROWS: Final = (
    Shortcut("j", "Next row", action="next"),
    Shortcut("k", "Previous row", action="previous"),
    Shortcut("Enter", "Open the row", action="open"),
    Shortcut("n", "Next page", action="older"),
    Shortcut("x", "Select the row", action="select"),
    Shortcut("r", "Redeliver the selection, or load the page again", action="redeliver"),
    Shortcut(".", "Choose an action on the selection, the row or the page", action="menu"),
    Shortcut("?", "Show the keys", action="help"),
)
"""The keys of lists and rows, which pages of the portal have, too."""

LISTED: Final = (
    *(
        Shortcut(f"g {entry.key}", f"Open {entry.title}", entry.path or "/", needs=entry.needs)
        for entries in GROUPS.values()
        for entry in entries
    ),
    Shortcut("g a", "Open Account", "/account"),
    Shortcut("/", "Filter the list, or search", action="search"),
    Shortcut("s", "Search", action="find"),
    Shortcut("p", "Pause or resume live updates", action="pause"),
    Shortcut("t", "Change the theme", action="theme"),
    *OF_ROWS,
)

"""Derives the sync half of the Python client from the async one, token by token."""

import re
from typing import Final

MARK: Final = '"""{}\n\nWritten by `make docs` from {}. Do not edit.\n"""\n\n'
"""The docstring of a generated module: its title and its source."""

_TOKENS: Final = {
    r"async (def|with|for) ": r"\1 ",
    r"\bawait ": "",
    r"\bAsync(?=[A-Z])": "",
    r"\b_async\b": "_sync",
    r"__a(enter|exit|iter|next)__": r"__\1__",
    r"\baclose\b": "close",
    r"\bCoroutine\[Any, Any, (.*?)\]": r"\1",
    r"\bAwaitable\[(.*?)\]": r"\1",
}


def sync_half(text: str, name: str) -> str:
    """Derive a module of the sync half from the async one, token by token."""
    for pattern, replacement in _TOKENS.items():
        text = re.sub(pattern, replacement, text)
    title, _, rest = text.removeprefix('"""').partition('"""\n')
    title = title.split("\n\nWritten by")[0].strip()
    return MARK.format(title, f"`_async/{name}.py`") + rest.lstrip("\n")

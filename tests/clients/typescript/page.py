"""The examples of docs/typescript.md.

`python -m tests.clients.typescript.page` writes them next to the client's tests: the compiler checks their types.
"""

import re
from pathlib import Path

from tools.typescript_client import PACKAGE

PAGE = Path(__file__).parents[3] / "docs" / "typescript.md"


def examples() -> list[str]:
    """Return the examples of the page, as whole modules."""
    found = re.findall(r"^```ts\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    whole = []
    for text in found:
        needs_client = "client." in text and "const client" not in text
        needs_class = (needs_client or "new Discue(" in text) and "{ Discue }" not in text
        imported = 'import { Discue } from "@discue/client";\n' * needs_class
        whole.append(imported + "const client = new Discue();\n" * needs_client + text)
    return whole


def main() -> None:
    """Write the examples of the page."""
    folder = PACKAGE / "tests" / "page"
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(examples()):
        (folder / f"{number}.ts").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

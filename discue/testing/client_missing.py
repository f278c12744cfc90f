"""The error of commands and of the test kit where the Python client is not installed."""

from typing import Final

CLIENT: Final = "discue_client"
REMEDY: Final = (
    "needs the Python client, which is not installed. The client is not on a package index: run "
    "`pip install ./clients/python` in a clone of the repository."
)
"""The rest of a sentence. It does not name the package: anyone could register that name on a package index."""

"""The error of commands and of the test kit where the Python client is not installed."""

from typing import Final

CLIENT: Final = "discue_client"
REMEDY: Final = (
    "needs the Python client, which is not installed. It is on no package index: in a clone of the repository, "
    "`pip install ./clients/python` installs it."
)
"""The rest of a sentence. The name of the package alone would lead people to install a stranger's."""

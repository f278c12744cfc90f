"""`discue topics`: lists, shows, creates, changes and deletes topics."""

from functools import partial
from typing import Final

from discue.cli.user import resources

add: Final = partial(resources.add, resources.TOPICS)

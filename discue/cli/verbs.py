"""The parsers that commands without a declaration are added to."""

from discue.cli.declarations import Commands as Commands  # noqa: PLC0414 - for `listen` and `demo`

"""The asynchronous client. `_sync` is derived from it: `python -m tools.python_client`."""

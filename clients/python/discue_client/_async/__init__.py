"""The asynchronous client. `_sync` is derived from it: `make docs`."""

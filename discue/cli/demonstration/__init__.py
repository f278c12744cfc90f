"""The shop that `discue demo` shows: its resources, the responses of its listeners, and its traffic."""

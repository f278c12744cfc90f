"""A self-hosted implementation of the discue API: asynchronous messaging over plain HTTP."""

__version__ = "0.1.0"

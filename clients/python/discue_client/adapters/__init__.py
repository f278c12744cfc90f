"""Webhooks in web frameworks. Each module imports its framework; the package depends on none of them.

A request that is not genuine gets `401`, and never reaches the handler. A handler that returns acknowledges the
message. It responds otherwise by raising `Retry`, `Reject`, `DoNotRetry` or `Unsubscribe`.
"""

"""Background jobs of a worker, most of them run by the leader."""

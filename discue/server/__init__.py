"""One process of the service: the worker, its HTTP server, and several processes on one machine."""

"""The server: workers, their HTTP server, and the processes that they run in."""

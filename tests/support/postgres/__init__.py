"""Throw-away PostgreSQL servers for the tests: real ones, started, killed, paused, replicated, promoted."""

"""The SQLite engine: one file, written by one thread."""

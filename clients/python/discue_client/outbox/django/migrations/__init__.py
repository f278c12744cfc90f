"""The migrations of Django."""

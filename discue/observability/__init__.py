"""Logs, and the supervision of background tasks."""

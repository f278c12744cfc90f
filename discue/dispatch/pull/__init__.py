"""Listeners whose consumers ask for messages."""

"""Schemas of queues: the rule language, JSON Schema, and the validation of messages."""

"""Encryption at rest, signatures, and the credentials of listeners."""

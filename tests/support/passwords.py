"""Passwords whose hashes cost nothing."""

from discue.domain.passwords import Cost

CHEAP = Cost(memory_kib=8, iterations=1)

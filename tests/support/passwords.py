"""Passwords whose hashes cost nothing."""

from discue.domain.passwords import HashCost

CHEAP = HashCost(memory_kib=8, iterations=1)

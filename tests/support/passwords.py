"""Passwords whose hashes cost nothing."""

from discue.crypto.passwords import HashCost

CHEAP = HashCost(memory_kib=8, iterations=1)

"""Faults of a cluster, one file for each family; `schedule.py` injects all of them."""

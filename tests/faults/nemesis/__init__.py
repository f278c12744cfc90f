"""What can go wrong with a cluster, one file for each family; `schedule.py` lets all of it happen."""

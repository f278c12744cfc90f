"""Promises checked over a history, one file for each group. Each check yields a sentence for every violation."""

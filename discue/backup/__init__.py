"""Backups of SQLite installations: made while servers run, verified, restored. Copies into another database."""

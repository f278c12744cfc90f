"""The PostgreSQL engine: several processes and machines on one database."""

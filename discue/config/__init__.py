"""Settings: their definitions, types and sources."""

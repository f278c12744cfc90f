"""Programs for the maintainers of the project, run as `python -m tools.NAME` from the root of the repository."""

"""Checks the language of the project: words, docstring openings, names and references.

`python -m tools.language [PATH…]` prints each hit as `path:line: rule: text`. Without paths it checks everything.
"""

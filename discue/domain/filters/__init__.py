"""Message filters: their syntax tree, parser and evaluation."""

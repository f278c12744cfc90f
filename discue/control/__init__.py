"""The verbs of the control plane: each checks its rule and does one transaction."""

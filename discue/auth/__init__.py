"""Authentication, rate limits, and the control plane cache that both read."""

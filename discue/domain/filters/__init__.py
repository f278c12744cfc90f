"""Which messages a listener wants: a small language of conditions on their data, headers and key."""

"""HTTP in: parses, authenticates, checks the scope, calls one function of the domain, renders."""

"""Users: how they sign in, their sessions and second factors, and the tables of these."""

"""Commands that use a service over HTTP with an API key. One file per command; each imports the client when it runs."""

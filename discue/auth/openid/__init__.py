"""Sign-in with identity providers (OpenID Connect)."""

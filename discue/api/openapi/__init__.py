"""The document that describes the API: made of the table of routes, the types of bodies, and the rules of fields."""

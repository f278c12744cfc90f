"""HTTP as the API and the dashboard both need it: headers, bodies, and responses that clients have not read."""

"""The documentation that the service serves: guides and reference as HTML pages, and an index to search them."""

"""A lane: delivers the messages of one cursor."""

"""What the messages of a queue must look like: rules read, checked, compiled."""

"""Publishing to queues and topics."""

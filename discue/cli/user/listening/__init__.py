"""The parts of `discue listen`."""

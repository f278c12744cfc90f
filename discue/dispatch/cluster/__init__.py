"""Workers of one installation: leases, and the ownership of cursors."""

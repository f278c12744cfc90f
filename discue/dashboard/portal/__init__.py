"""The portal: pages on which customers of an organization manage their own listeners."""

"""The objects of a mask: where they are, how far away, and what their middle lines are."""

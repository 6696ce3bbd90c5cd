"""What the measures of a whole set say of each item."""

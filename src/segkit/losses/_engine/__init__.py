"""What makes the losses work: one pass over the pixels, by the way that fits the call."""

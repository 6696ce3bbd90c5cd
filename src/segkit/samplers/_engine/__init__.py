"""What makes the samplers work: computed shuffles, plans of steps, and the clock that says which epoch is read."""

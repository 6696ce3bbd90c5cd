"""What makes folds: which pairs must stay together, and which fold each such unit goes to."""

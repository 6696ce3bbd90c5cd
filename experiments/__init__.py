"""Questions about training segmentation networks, answered by training a small one many times."""

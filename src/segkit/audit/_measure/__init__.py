"""What is measured of each image and its mask."""

"""What makes merging work: rectangles averaged where crops overlap, and the file that finished rows go into."""

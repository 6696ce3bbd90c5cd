"""What makes shapes into pixels: outlines, run lengths, and painting one over the other."""

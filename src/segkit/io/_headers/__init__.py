"""What a file says of itself, format by format."""

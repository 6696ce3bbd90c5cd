"""What decodes the samples, library by library."""

"""The pass in blocks of rows, in plain torch."""

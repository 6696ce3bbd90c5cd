"""One map for many moves, and the pixels at its places."""

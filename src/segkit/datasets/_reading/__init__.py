"""How the files of a pair become a sample: opened, checked against each other, read as far as the transform needs."""

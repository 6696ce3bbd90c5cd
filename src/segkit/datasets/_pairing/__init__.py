"""How files are listed and matched by name, and what to propose where they are not."""

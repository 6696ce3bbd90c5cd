"""``python -m segkit`` is the command ``segkit``."""

import sys

from segkit.cli import main

if __name__ == "__main__":
    sys.exit(main())

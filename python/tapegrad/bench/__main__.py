"""``python -m tapegrad.bench`` is ``tapegrad bench``."""

import sys

from tapegrad.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())

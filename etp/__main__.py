"""``python -m etp``."""

import sys

from etp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

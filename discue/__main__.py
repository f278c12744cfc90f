"""`python -m discue` is `discue`."""

import sys

from discue.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

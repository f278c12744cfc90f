"""The command line as a user without rights, started by root: `python -m tests.faults.unprivileged serve …`."""

import encodings.idna  # noqa: F401
import importlib.readers  # noqa: F401
import os
import sys

# Before the rights are gone: the files of the program need not be readable to everybody.
from discue.cli.main import main

_NOBODY = 65_534

if __name__ == "__main__":
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    sys.exit(main(sys.argv[1:]))

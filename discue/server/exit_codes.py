"""What a command ends with: an exit code, and a line for people when it failed."""

import os
import sys
from collections.abc import Callable

from discue.domain.errors import DiscueError, SettingsInvalid
from discue.observability import logs

FINE, FAILED, WRONG_USAGE = 0, 1, 2


def exit_code_of(run: Callable[[], int]) -> int:
    """What `run` returns. What it raises of what can go wrong becomes a line on standard error, and exit code 1."""
    try:
        return run()
    except DiscueError as error:
        return complain(error, FAILED)
    except BrokenPipeError:
        # Whoever read the output went away; the interpreter would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return complain(DiscueError(f"{place}{error.strerror or type(error).__name__}"), FAILED)
    except KeyboardInterrupt:
        return FAILED


def complain(error: DiscueError, code: int) -> int:
    """Say what is wrong, with every place of it. Returns the code."""
    lines = [f"discue: {error.detail}"]
    if not isinstance(error, SettingsInvalid):
        lines += [f"  {fault.pointer}: {fault.detail}" for fault in error.faults]
    sys.stderr.write(logs.redact("\n".join(lines)) + "\n")
    return code

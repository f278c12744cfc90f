"""A guard that ends a server when its test process is gone: a shell that waits for the end of its input."""

import subprocess
from pathlib import Path

PATIENCE_SECONDS = 30.0

# SIGQUIT is PostgreSQL's immediate shutdown; a paused server gets it when it goes on. A zombie has ended.
_SCRIPT = """
while read -r first others; do pid=$first; paused=$others; done
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    kill -CONT "$pid" $paused
    tries=100
    while [ $tries -gt 0 ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status"; do
        sleep 0.1
        tries=$((tries - 1))
    done
fi 2>/dev/null
rm -rf -- "$1"
"""


class Guard:
    """When it is ended, or this process has died, ends the server it was told of last and removes a path."""

    def __init__(self, path: Path) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(path)], cwd="/", stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, *pids: int) -> None:
        """Tell of the server that runs, and then of its processes that are stopped. No process is no server."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(" ".join(map(str, pids)).encode() + b"\n")
        self._shell.stdin.flush()

    def end(self) -> None:
        """Returns when all is gone."""
        self._shell.communicate(timeout=PATIENCE_SECONDS)

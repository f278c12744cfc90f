"""Proxies in the foreground, with the configurations of the documentation."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

CADDY: Final = shutil.which("caddy")
NGINX: Final = shutil.which("nginx")
_PATIENCE_SECONDS: Final = 60
_NGINX_FOLDERS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def caddy(folder: Path, sites: str, port: int) -> Iterator[None]:
    """Run Caddy with these sites, one of which is on the port."""
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{sites}")
    with _running(CADDY or "", "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"):
        _wait_until_open(port)
        yield


@contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """Run nginx with these servers, one of which is on the port."""
    folders = "".join(f"{each}_temp_path {folder};" for each in _NGINX_FOLDERS)
    user = "user root; " if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {user}pid {folder}/pid; error_log {folder}/errors;\n"
        f"events {{}}\nhttp {{ access_log off; {folders}\n{servers}}}\n"
    )
    with _running(NGINX or "", "-c", folder / "nginx.conf", "-p", folder):
        _wait_until_open(port)
        yield


@contextmanager
def _running(*command: str | Path) -> Iterator[None]:
    proxy = subprocess.Popen([str(each) for each in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        proxy.terminate()
        proxy.wait(_PATIENCE_SECONDS)


def _wait_until_open(port: int) -> None:
    """Return when a proxy listens: it does not say so."""
    script = f"until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.02; done"
    subprocess.run(["bash", "-c", script], timeout=_PATIENCE_SECONDS, check=True)

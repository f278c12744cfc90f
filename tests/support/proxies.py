"""Proxies in the foreground: in front of the service, with the configurations of the documentation, and behind it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

CADDY: Final = shutil.which("caddy")
NGINX: Final = shutil.which("nginx")
_SYSTEM_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
SQUID: Final = shutil.which("squid", path=_SYSTEM_PATH)
TINYPROXY: Final = shutil.which("tinyproxy", path=_SYSTEM_PATH)
BLOCKED: Final = "blocked.example"
"""The host that the forward proxies refuse."""
_SQUID_AUTH: Final = "/usr/lib/squid/basic_ncsa_auth"
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
def squid(port: int, user: str, password: str) -> Iterator[None]:
    """Run Squid for one user."""
    hashing = ["openssl", "passwd", "-apr1", password]
    line = f"{user}:{subprocess.run(hashing, capture_output=True, text=True, check=True).stdout}"
    with TemporaryDirectory() as folder:
        # Squid gives up the rights of root, which the folders of tests need.
        Path(folder).chmod(0o755)
        Path(folder, "users").write_text(line)
        Path(folder, "squid.conf").write_text(
            f"http_port 127.0.0.1:{port}\nauth_param basic program {_SQUID_AUTH} {folder}/users\n"
            f"auth_param basic children 1 startup=1\nacl users proxy_auth REQUIRED\nacl blocked dstdomain {BLOCKED}\n"
            "http_access deny !users\nhttp_access deny blocked\nhttp_access allow all\ncache deny all\n"
            "access_log none\ncache_log /dev/null\ncache_store_log none\npid_filename none\npinger_enable off\n"
            f"shutdown_lifetime 0 seconds\nvisible_hostname proxy.example\ncoredump_dir {folder}\n"
        )
        with _running(SQUID or "", "-N", "-f", Path(folder, "squid.conf")):
            _wait_until_open(port)
            yield


@contextmanager
def tinyproxy(port: int, user: str, password: str) -> Iterator[None]:
    """Run Tinyproxy for one user."""
    with TemporaryDirectory() as folder:
        Path(folder, "filter").write_text(f"{BLOCKED}\n")
        Path(folder, "tinyproxy.conf").write_text(
            f'Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogLevel Critical\nLogFile "{folder}/log"\n'
            f'BasicAuth {user} {password}\nFilter "{folder}/filter"\n'
        )
        with _running(TINYPROXY or "", "-d", "-c", Path(folder, "tinyproxy.conf")):
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

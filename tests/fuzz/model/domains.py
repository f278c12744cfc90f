"""Domains: places that stand for ever, and whether a URL lies on one."""

from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.model.collection import Collection, Item

WEEK_MS = 7 * 86_400_000
_PLACES: tuple[tuple[str, int | None], ...] = (
    ("hooks.example.com", None),
    ("Hooks.Example.com.", 8_443),
    ("localhost", 1_031),
    ("hooks.example.com", 80),
    ("127.0.0.1", 443),
    ("hooks.example.org", 81),
    ("127.1", 70_000),
)
_UNFIT_HOSTS = {"127.0.0.1", "127.1"}
_UNFIT_PORTS = {81, 70_000}
_DEFAULT_PORTS = {"http": 80, "https": 443}
URLS = (
    "http://127.0.0.1:9/n",
    "https://hooks.example.com/n",
    "https://HOOKS.example.com:8443/n",
    "http://hooks.example.com/n",
    "http://hooks.example.com:8443/n",
    "http://localhost:1031/n",
    "https://hooks.example.org/n",
)


def place_of(hostname: str, port: int) -> tuple[str, int]:
    return hostname.lower().removesuffix("."), port


def place_of_url(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return place_of(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])


class Domains(Collection):
    def content(self, variant: int) -> dict[str, Any]:
        hostname, port = _PLACES[variant % len(_PLACES)]
        return {"hostname": hostname} if port is None else {"hostname": hostname, "port": port}

    def unfit(self, body: dict[str, Any]) -> set[str]:
        hosts = {"/hostname"} if body["hostname"] in _UNFIT_HOSTS else set()
        return hosts | ({"/port"} if body.get("port") in _UNFIT_PORTS else set())

    def made(self, body: dict[str, Any], answer: Any) -> Item:
        shown, item = answer["domain"], super().made(body, answer)
        https = shown["challenge"]["https"]
        assert https["context_path"] == https["context_path"].strip("/") != ""
        assert https["file_name"] != https["file_content"] != ""
        assert https["expires_at"] - https["created_at"] == WEEK_MS
        item.details = {"hostname": body["hostname"], "port": body.get("port", 443), "challenge": shown["challenge"]}
        return item

    def require_shown(self, item: Item, shown: Any) -> None:
        """Nobody ever put a file there."""
        super().require_shown(item, shown)
        assert (shown["verification"]["verified"], shown["verification"]["verified_at"]) == (False, 0)

    def places(self) -> set[tuple[str, int]]:
        return {place_of(item.details["hostname"], item.details["port"]) for item in self.items}


class Listeners(Collection):
    def content(self, variant: int) -> dict[str, Any]:
        count = len(URLS)
        return {"notify_url": URLS[variant % count], "liveness_url": URLS[variant // count % count]}

    def made(self, body: dict[str, Any], answer: Any) -> Item:
        item = super().made(body, answer)
        item.details = {name: body[name] for name in ("notify_url", "liveness_url")}
        return item

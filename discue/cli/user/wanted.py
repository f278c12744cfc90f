"""The file of `discue apply`: queues, listeners, schedules, topics and channels by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from discue.cli.exit_codes import CommandFailed
from discue.domain.suggestions import suggestion

CHILDREN: Final[Mapping[str, tuple[str, ...]]] = {
    "event_types": (),
    "queues": ("listeners", "schedules"),
    "topics": ("channels",),
}
"""Resources at the top of the file, and those that each of them has."""


class Wanted(NamedTuple):
    """A resource of the file."""

    path: tuple[str, ...]
    """Names of collections and aliases in turn, such as queues, orders, listeners, billing."""
    fields: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.path[-2]

    @property
    def label(self) -> str:
        return f"{singular(self.kind)} {'/'.join(self.path[1::2])}"


class WantedFile(NamedTuple):
    """The content of a file."""

    resources: tuple[Wanted, ...]
    """Parents come before their children, and queues before the channels that lead to them."""
    collections: tuple[tuple[str, ...], ...]
    """Paths of the collections that the file lists, which `--prune` compares."""


def singular(kind: str) -> str:
    return kind.removesuffix("s")


def read_wanted(content: bytes, name: str) -> WantedFile:
    """Parse a file of YAML, of which JSON is a part. Raises CommandFailed with the place of a mistake."""
    try:
        document = yaml.load(content, _Loader)  # noqa: S506 - derived from the safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    _check_names(document, CHILDREN, name)
    resources: list[Wanted] = []
    collections: list[tuple[str, ...]] = []
    for kind, children in CHILDREN.items():
        if kind in document:
            collections.append((kind,))
            for alias, fields in _entries(document[kind], (kind,), name):
                own = {key: value for key, value in fields.items() if key not in children}
                resources.append(Wanted((kind, alias), own))
                for child in children:
                    if child in fields:
                        path = (kind, alias, child)
                        collections.append(path)
                        below = _entries(fields[child], path, name)
                        resources += [Wanted((*path, each), its_fields) for each, its_fields in below]
    return WantedFile(tuple(resources), tuple(collections))


def _check_names(document: Any, known: Mapping[str, Any], name: str) -> None:
    if not isinstance(document, dict) or not document:
        raise CommandFailed(f"{name} must have one of: {', '.join(known)}.")
    for key in document:
        if key not in known:
            raise CommandFailed(f"{name} has an unknown entry {key}{suggestion(str(key), known) or '.'}")


def _entries(content: Any, path: tuple[str, ...], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    place = ".".join(path)
    if isinstance(content, list):
        raise CommandFailed(
            f"{name}: {place} is a list. Its entries must have their alias as key:\n\n{_form(content, path)}"
        )
    if not isinstance(content, dict | None):
        raise CommandFailed(f"{name}: {place} must have an entry for each alias.")
    for alias, fields in (content or {}).items():
        if not isinstance(alias, str):
            raise CommandFailed(f"{name}: {place} has the alias {alias!r}. Write it in quotation marks.")
        if not isinstance(fields, dict | None):
            raise CommandFailed(f"{name}: {place}.{alias} must have fields, or nothing.")
        yield alias, fields or {}


def _form(content: list[Any], path: tuple[str, ...]) -> str:
    """Return how the first entry of a list is to be written, without values: they may be secrets."""
    first = content[0] if content else None
    fields = dict(first) if isinstance(first, dict) else {}
    alias = next((fields.pop(each) for each in ("alias", "name") if each in fields), first)
    if not isinstance(alias, str):
        alias = f"ALIAS_OF_THE_{singular(path[-1]).upper()}"
    steps = [*path, alias]
    lines = [f"{'  ' * depth}{step}:" for depth, step in enumerate(steps, 1)]
    lines += [f"{'  ' * (len(steps) + 1)}{field}: …" for field in fields]
    return "\n".join(lines)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses keys that occur twice, of which YAML would drop one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - as it is called
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

"""Against which service the suite runs: the one that it is told, or each of its own."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.begun import Begun
from tests.contract.caller import Caller, client_at, fresh, some_address
from tests.contract.serving import SETTINGS, Installation, installation
from tests.contract.world import World
from tests.support.everywhere import EVERYWHERE
from tests.support.receiver import Receiver, receiving

GIVEN = "given"

_SUITE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract")
    group.addoption("--url", help="the service to run against; CONTRACT_URL")
    group.addoption("--key", help="a key of its operator; CONTRACT_KEY")
    group.addoption("--receiver", help="this machine's address, where the service can reach it; CONTRACT_RECEIVER")


def told(config: pytest.Config, name: str) -> str | None:
    """Return an option of the command line or the environment."""
    return config.getoption(f"--{name}", default=None) or os.environ.get(f"CONTRACT_{name.upper()}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "covers(row, ...): the rows of the reference that a test is about")


def settings_meant(module: Any) -> Sequence[str]:
    """Return the settings that a module runs on: all with EVERYWHERE, else its SETTINGS_MEANT, by default SQLite.

    Modules that test state that workers share name three workers. The tests of the store and of the API run on
    both engines.
    """
    return SETTINGS if EVERYWHERE else getattr(module, "SETTINGS_MEANT", ("sqlite",))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "setting" in metafunc.fixturenames:
        settings = [GIVEN] if told(metafunc.config, "url") else settings_meant(metafunc.module)
        metafunc.parametrize("setting", settings, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests of a setting, so that only one of the parallel processes starts its services.

    Tests that wait for what takes a minute come last of their group: others run while that goes on.
    """
    for item in items:
        if isinstance(item, pytest.Function) and "setting" in item.fixturenames and _SUITE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(f"contract on {item.callspec.params['setting']}"))
    items.sort(key=lambda item: item.path.name == "test_slow_transitions.py")


class Installations:
    """The installations in use, each started on first use."""

    def __init__(self, folders: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._worlds: dict[str, World] = {}
        self.begun: dict[str, Begun] = {}

    def world(self, setting: str, given: Installation | None, receiver: Receiver) -> World:
        if setting not in self._worlds:
            found = given or self._stack.enter_context(installation(setting, self._folders.mktemp("contract")))
            client = self._stack.enter_context(client_at())
            self._worlds[setting] = World(Caller(found, client, found.key))
            self._stack.enter_context(self._worlds[setting].closing)
            stranger = None
            if found.urls[0].startswith("http://127."):
                stranger = Caller(found, self._stack.enter_context(client_at(some_address())), None)
            self.begun[setting] = Begun(self._worlds[setting].operator, receiver, stranger)
        return self._worlds[setting]


@pytest.fixture(scope="session")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installations]:
    with ExitStack() as stack:
        yield Installations(tmp_path_factory, stack)


@pytest.fixture
def world(setting: str, installations: Installations, receiver: Receiver, pytestconfig: pytest.Config) -> World:
    """Existing resources that tests must not change."""
    url, key = told(pytestconfig, "url"), told(pytestconfig, "key")
    given = Installation((url.rstrip("/"),), key or "", is_ours=False) if url else None
    return installations.world(setting, given, receiver)


@pytest.fixture
def begun(world: World, setting: str, installations: Installations) -> Begun:
    return installations.begun[setting]


@pytest.fixture
def operator(world: World) -> Caller:
    return world.operator


@pytest.fixture
def found_organization(operator: Caller) -> Iterator[Callable[..., Caller]]:
    """Makes an organization and gives the owner of its first key; removed afterwards from a service that stays."""
    made: list[str] = []

    def make(**fields: Any) -> Caller:
        answer = operator.ask("POST", "/organizations", {"alias": f"org.example.{fresh()}", **fields})
        assert answer.status_code == 200, answer.text
        made.append(answer.json()["organization"]["id"])
        return operator.with_key(answer.json()["api_key"]["key"])

    yield make
    for organization in () if operator.installation.is_ours else made:
        operator.ask("DELETE", f"/organizations/{organization}")


@pytest.fixture
def owner(found_organization: Callable[..., Caller]) -> Caller:
    """Has the first key of an organization in which there is nothing."""
    return found_organization()


@pytest.fixture
def charlie(found_organization: Callable[..., Caller]) -> Caller:
    """Has the first key of another organization."""
    return found_organization()


@pytest.fixture
def stranger(operator: Caller) -> Iterator[Caller]:
    """Calls from an address of its own, so that it alone is locked out."""
    if not operator.installation.urls[0].startswith("http://127."):
        pytest.skip("Only on loopback a test has an address of its own.")
    with client_at(some_address()) as client:
        yield Caller(operator.installation, client, None)


@pytest.fixture(scope="session")
def receiver(pytestconfig: pytest.Config) -> Iterator[Receiver]:
    with receiving(told(pytestconfig, "receiver") or "127.0.0.1") as receiver:
        yield receiver


@pytest.fixture
def h2(operator: Caller) -> Iterator[httpx.Client]:
    with client_at(http2=True) as client:
        yield client

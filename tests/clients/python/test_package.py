"""The package as programs import it."""

import subprocess
import sys

import pytest

from tools.python_client import PACKAGE

_PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import discue_client
print(*(name for name in ("asyncio", "httpx2", "ssl") if name in sys.modules))
"""


def test_import_loads_no_http_client() -> None:
    program = _PROGRAM.format(folder=str(PACKAGE.parent))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert "httpx2" not in run.stdout.split()


def test_unknown_name_is_an_attribute_error() -> None:
    import discue_client  # noqa: PLC0415

    with pytest.raises(AttributeError, match="no attribute 'Discu'"):
        discue_client.__getattr__("Discu")
    assert "AsyncDiscue" in dir(discue_client)

"""The package as programs import it."""

import subprocess
import sys

import pytest

from tools.python_client import PACKAGE

_MEASURE = """
import sys, time
sys.path.insert(0, {folder!r})
before = time.process_time()
import discue_client
print(time.process_time() - before, *(name for name in ("asyncio", "httpx2", "ssl") if name in sys.modules))
"""


def _import() -> list[str]:
    program = _MEASURE.format(folder=str(PACKAGE.parent))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    return run.stdout.split()


def test_import_takes_at_most_60_ms_and_loads_no_http_client() -> None:
    runs = [_import() for _ in range(3)]

    assert min(float(seconds) for seconds, *_ in runs) < 0.06
    assert "httpx2" not in runs[0]


def test_unknown_name_is_an_attribute_error() -> None:
    import discue_client  # noqa: PLC0415

    with pytest.raises(AttributeError, match="no attribute 'Discu'"):
        discue_client.__getattr__("Discu")
    assert "AsyncDiscue" in dir(discue_client)

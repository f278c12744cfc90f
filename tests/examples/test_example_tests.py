"""The tests of the examples, as their users run them, in one process. `make clients` runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN_SECONDS = 100


def test_tests_of_all_examples_pass(tmp_path: Path) -> None:
    # The plugins of this environment are not what examples are about.
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "warehouse.settings",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(EXAMPLES / "django_receiver"),
    }
    plugins = ("-p", "discue.testing.plugin", "-p", "pytest_django.plugin", "-p", "no:cacheprovider")
    run = (sys.executable, "-m", "pytest", "-q", "-Werror", "-c", "/dev/null", "--rootdir", ".", *plugins, EXAMPLES)

    done = subprocess.run(
        run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )

    tests = [path.read_text() for path in EXAMPLES.glob("*/test_*.py")]
    assert len(tests) == len([path for path in EXAMPLES.iterdir() if (path / "README.md").exists()])
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout
    assert passed is not None
    assert int(passed[1]) >= sum(len(re.findall(r"^def test_", text, re.MULTILINE)) for text in tests)
